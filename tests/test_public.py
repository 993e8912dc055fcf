"""What `import raymlops` gives is told in its own help."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import raymlops as rm


@pytest.mark.parametrize("name", rm.__all__)
def test_what_is_public_says_what_it_does(name: str) -> None:
    found = getattr(rm, name)
    assert inspect.getdoc(found)
    if inspect.isclass(found):
        parts = {part: value for part, value in vars(found).items() if not part.startswith("_")}
        told = {
            part: inspect.getdoc(value)
            for part, value in parts.items()
            if callable(value) or isinstance(value, property | classmethod | staticmethod)
        }
        assert [part for part, text in told.items() if not text] == []


def test_the_verbs_need_no_import_of_their_own() -> None:
    """`import raymlops as rm` and then `rm.operate.train` ended with an AttributeError."""
    assert rm.operate.train.__module__ == "raymlops.operate.training"


def test_a_name_that_is_not_there_is_told_with_one_that_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import raymlops; raymlops.Traner"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no attribute 'Traner'. Did you mean: 'Trainer'?" in done.stderr


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_the_example_in_the_help_of_the_trainer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"\n((?:    .+\n)+)\n", inspect.getdoc(rm.Trainer) or "")
    names = {name: getattr(rm, name) for name in rm.__all__}
    exec(textwrap.dedent(example), names)
    assert re.fullmatch(r"digits-\w+ \d+ None\n", capsys.readouterr().out)
    assert sum(weight.numel() for weight in names["module"].parameters()) > 0  # type: ignore[attr-defined]
