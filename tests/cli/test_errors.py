from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raymlops.cli import app
from raymlops.errors import ConfigError


def test_a_known_error_is_one_line_and_exit_status_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raymlops", "train", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"raymlops: there is no configuration file {tmp_path / 'none.yaml'}\n"
    assert done.stdout == ""


def test_versions_that_share_no_pool_are_deployed_one_by_one() -> None:
    with pytest.raises(ConfigError, match=r"2 versions are named, and no --pool"):
        CliRunner().invoke(app, ["deploy", "a@champion", "b@champion"], catch_exceptions=False)
