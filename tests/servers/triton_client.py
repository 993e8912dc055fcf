"""Triton's client, in an environment of its own: it asks for other versions than raymlops."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_PACKAGE = "tritonclient[http,grpc]==2.73.0"
# Read when this module is imported: tests give their processes another HOME.
FOLDER = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "raymlops-tests"
    / "tritonclient-2.73.0"
)


def main() -> None:
    """Makes the environment, unless it is there: it appears when it is complete."""
    if FOLDER.is_dir():
        return
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as name:
        environment = Path(name, "environment")
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True
        )
        (packages,) = environment.glob("lib/python*/site-packages")
        install = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts",
            f"--target={packages}", _PACKAGE,
        ]  # fmt: skip
        subprocess.run(install, check=True)
        environment.rename(FOLDER)


def python() -> Path:
    """The interpreter that has the client."""
    return FOLDER / "bin" / "python"


if __name__ == "__main__":
    main()
