from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
