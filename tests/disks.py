"""Small disks of a test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers.process import program


def output_on_small_disk(script: str, folder: Path) -> list[str]:
    """The lines that a Python script prints, to which `folder` is a disk of 4 MiB, its argument."""
    mounted = [
        program("unshare", package="util-linux"), "--map-root-user", "--mount", "sh", "-c",
        'mount -t tmpfs -o size=4m tmpfs "$2" && exec "$0" -c "$1" "$2"',
        sys.executable, script, str(folder),
    ]  # fmt: skip
    done = subprocess.run(mounted, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
