from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from raymlops.ledger.provenance import code_at, environment


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    code = code_at(checkout)
    assert code.commit == git(checkout, "rev-parse", "HEAD")
    assert code.dirty_digest is None


def test_changes_and_new_files_change_the_digest(checkout: Path) -> None:
    (checkout / "a.py").write_text("a = 2\n")
    changed = code_at(checkout).dirty_digest
    (checkout / "b.py").write_text("b = 1\n")
    added = code_at(checkout).dirty_digest
    (checkout / "b.py").write_text("b = 2\n")
    edited = code_at(checkout).dirty_digest
    assert len({changed, added, edited, None}) == 4


def test_a_file_whose_name_is_no_unicode_counts_as_any_other(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for folder in (checkout, tmp_path_factory.mktemp("outside")):
        digests = set()
        for content in ("b = 1\n", "b = 2\n"):
            (folder / os.fsdecode(b"\xff.py")).write_text(content)
            digests.add(code_at(folder).dirty_digest)
        assert len(digests) == 2


@pytest.mark.parametrize("verb", ["rev-parse", "diff", "ls-files"])
def test_a_git_that_hangs_is_as_none(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    run = subprocess.run

    def hang(command: list[str], **options: Any) -> Any:
        if verb in command:
            raise subprocess.TimeoutExpired(command, 30)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", hang)
    code = code_at(checkout)
    assert code.commit == "none"
    assert code.dirty_digest is not None


def test_outside_a_checkout_the_files_count(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    first = code_at(tmp_path)
    (tmp_path / "a.py").write_text("a = 2\n")
    assert first.commit == "none"
    assert first.dirty_digest != code_at(tmp_path).dirty_digest


def test_the_environment_names_every_package() -> None:
    assert f"numpy=={version('numpy')}" in environment().splitlines()
