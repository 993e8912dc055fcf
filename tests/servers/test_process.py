"""Servers of the tests end with whoever runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from tests.coordination.processes import until

# Starts a server, tells which it is, and waits to be killed.
HOLDER = """
import sys
from pathlib import Path
from tests.servers.process import running

folder = Path(sys.argv[1])
with running(["sleep", "600"], folder=folder, is_up=lambda: True, leaves=[folder]) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


def test_a_server_ends_with_tests_that_are_killed_and_leaves_nothing(tmp_path: Path) -> None:
    """A CI that ended pytest left three of them running, and their folders in /tmp."""
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        server = psutil.Process(int(holder.stdout.readline()))
        holder.kill()
    psutil.wait_procs([server])
    until(lambda: not folder.exists())
    assert list(tmp_path.iterdir()) == []
