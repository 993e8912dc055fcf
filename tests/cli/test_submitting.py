from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster import JobResult
from raymlops.operate import Workspace
from tests.cli.commands import run


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What was submitted last, from an empty working directory; it is not run."""
    found: dict[str, Any] = {}

    def submit(workspace: Workspace, script: Path, args: list[str], **_: Any) -> JobResult:
        found.update(script=str(script), args=args, home=workspace.settings.home)
        return JobResult(job_id="1", log="")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("raymlops.operate.submit", submit)
    return found


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_options_of_the_script_reach_it(dashes: tuple[str], submitted: dict[str, Any]) -> None:
    """Without -- they were refused as options that `submit` does not have."""
    run("submit", "jobs/train.py", *dashes, "own.yaml", "--data", "own.csv", "--set", "plan.data=1")
    assert submitted["script"] == "jobs/train.py"
    assert submitted["args"] == ["own.yaml", "--data", "own.csv", "--set", "plan.data=1"]


def test_the_home_of_the_job_is_not_relative_to_its_copy(
    submitted: dict[str, Any], tmp_path: Path
) -> None:
    run("submit", "--home", "own", "job.py", "--", "--home", "other")
    assert submitted["home"] == str(tmp_path / "own")
    assert submitted["args"] == ["--home", "other"]
