"""A job keeps what it makes in the ledger of who submitted it, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster import down, up
from raymlops.config import literal
from raymlops.errors import ConfigError
from raymlops.operate import Workspace, load_settings, submit
from raymlops.train import Factory, Trainer, TrainSpec

AUTO = "cluster.address=auto"

SCRIPT = """
import argparse
from raymlops.cli.job import open_job

with open_job(argparse.Namespace(configs=[], home=None, set=[])) as workspace:
    workspace.ledger.decisions.add(
        model="m", kind="trigger", outcome="kept", who="job.py", why="to be found again",
        evidence={},
    )
"""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the cluster was asked for last; it runs nothing."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "raymlops.cluster.submit", lambda script, args, **rest: asked.update(rest, args=args)
    )
    return asked


@pytest.mark.parametrize("name", ["plain", "a: b # c", "${env:NOBODY}", "123"])
def test_a_job_has_the_home_of_who_submits_it(
    name: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    home = tmp_path / name
    with Workspace.open(overrides=[AUTO, f"home={literal(str(home))}"]) as workspace:
        submit(workspace, "job.py", working_dir=tmp_path)
    assert load_settings(environ=given["env"]).settings.home == str(home)


def test_a_home_that_a_configuration_of_the_script_names_wins(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    (tmp_path / "own.yaml").write_text("home: /shared/raymlops\n")
    (tmp_path / "none.yaml").write_text("model: m\n")
    with Workspace.open(overrides=[AUTO, f"home={tmp_path}"]) as workspace:
        submit(workspace, "job.py", ["none.yaml", "own.yaml"], working_dir=tmp_path)
        assert given["env"] == {}
        submit(workspace, "job.py", ["none.yaml"], working_dir=tmp_path, environment="production")
    assert given["env"] == {"RAYMLOPS__HOME": f'"{tmp_path}"', "RAYMLOPS_ENV": "production"}


def test_a_relative_home_is_nothing_to_another_machine(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Workspace.open(overrides=[AUTO]) as workspace:
        submit(workspace, "job.py", working_dir=tmp_path)
    assert given["env"] == {}


def test_a_home_that_ray_deletes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job succeeded, and its ledger was gone with the cluster."""
    copy = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(ConfigError, match=r"_ray_pkg_1/\.raymlops, .* deletes .* give .* --home"):
        Workspace.open()
    Workspace.open(overrides=[f"home={tmp_path}"]).close()
    nothing = Factory(call="builtins:list")
    for start in (
        Trainer(TrainSpec(model=nothing, data=nothing)).fit,
        partial(Trainer.resume, "r"),
    ):
        with pytest.raises(ConfigError, match=r"_ray_pkg_1/\.raymlops, .* deletes"):
            start()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a script and the cluster of its default home."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text(SCRIPT)
    up(None, home=Path(".raymlops").resolve(), num_cpus=1)
    yield tmp_path
    down(Path(".raymlops").resolve())


@pytest.mark.cluster
def test_what_a_job_decides_is_in_the_ledger_here(folder: Path) -> None:
    with Workspace.open(overrides=[AUTO]) as workspace:
        submit(workspace, "job.py", working_dir=folder)
        (decision,) = workspace.ledger.decisions.list(model="m")
    assert decision.outcome == "kept"
