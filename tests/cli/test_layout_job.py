"""What the scripts in jobs/layouts/ do with a spec, without training it."""

from __future__ import annotations

import argparse
import contextlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raymlops.cli import layout_job
from raymlops.train import TrainSpec

LAYOUTS = Path(__file__).parents[2] / "jobs" / "layouts"
SPEC = """
model: {call: "functions_of_mine:network"}
data: {call: "functions_of_mine:rows"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a spec and the functions it names."""
    (tmp_path / "functions_of_mine.py").write_text("def network(): ...\ndef rows(): ...\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "functions_of_mine", raising=False)
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainSpec]:
    """The specs that scripts trained; each is asked for its functions, and the run ends there."""
    found: list[TrainSpec] = []

    def fit(spec: TrainSpec) -> None:
        spec.model.function()
        found.append(spec)
        raise SystemExit

    @contextlib.contextmanager
    def opened(*_: Any) -> Iterator[Any]:
        yield SimpleNamespace(ledger=None, home=None)

    monkeypatch.setattr(layout_job, "open_job", opened)
    monkeypatch.setattr(layout_job, "following", opened)
    monkeypatch.setattr("raymlops.operate.fit", lambda _, spec, *args, **kwargs: fit(spec))
    return found


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> None:
    path = LAYOUTS / script
    monkeypatch.setattr(sys, "argv", [str(path), "spec.yaml", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code is None


@pytest.mark.parametrize("script", ["fsdp.py", "parameter_server.py", "tensor_parallel.py"])
def test_functions_lie_in_the_working_directory(
    script: str, folder: Path, trained: list[TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were found by `raymlops train` alone, and a script's own folder was searched."""
    run(monkeypatch, script)
    assert [spec.model.call for spec in trained] == ["functions_of_mine:network"]


@pytest.mark.parametrize(("every_steps", "timeline"), [(0, False), (5, True)])
def test_a_timeline_is_drawn_where_there_are_checkpoints(
    every_steps: int,
    timeline: bool,
    folder: Path,
    trained: list[TrainSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A spec without checkpoints was refused for a timeline that nobody had asked for."""
    run(monkeypatch, "pipeline.py", "--set", f"checkpoints.every_steps={every_steps}")
    assert [spec.pipeline.timeline for spec in trained] == [timeline]


@pytest.mark.parametrize("script", sorted(path.name for path in LAYOUTS.glob("*.py")))
def test_no_script_has_a_home_of_its_own(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job, two kept their ledger in the copy of the working directory that Ray deletes."""
    homes: list[Path | None] = []

    def open_job(arguments: argparse.Namespace) -> None:
        homes.append(arguments.home)
        raise SystemExit

    monkeypatch.setattr("raymlops.cli.job.open_job", open_job)
    monkeypatch.setattr(layout_job, "open_job", open_job)
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit):
        runpy.run_path(str(LAYOUTS / script), run_name="__main__")
    assert homes == [None]  # so that the settings say it, or who submitted the job


@pytest.mark.parametrize(
    ("script", "mistake", "told"),
    [
        ("data_parallel.py", "--workers=0", "data is 0; a plan has at least one worker on each"),
        ("fsdp.py", "--shards=0", "shard is 0; a plan has"),
        ("hybrid.py", "--plan=data=0", "argument --plan: data is 0; a plan has"),
        ("mirrored.py", "--plan=data=0", "argument --plan: data is 0; a plan has"),
        ("parameter_server.py", "--sync=bogus", "sync is 'bogus'; it is synchronous, "),
        ("pipeline.py", "--stages=0", "pipeline is 0; a plan has"),
        ("tensor_parallel.py", "--slices=0", "tensor is 0; a plan has"),
    ],
)
def test_a_plan_that_is_none_is_told_in_a_line(
    script: str,
    mistake: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [script, mistake])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(LAYOUTS / script), run_name="__main__")
    assert ended.value.code == 2
    assert f"{script}: error: {told}" in capsys.readouterr().err
