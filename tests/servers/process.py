"""What all servers share: finding a program, and running it for the length of a block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
# Reads to the end of what nobody writes to, which is that of the process that holds it open. What
# the server makes of a signal is waited for: a PostgreSQL that is killed leaves shared memory.
_GUARD = """
trap '' INT TERM HUP
read -r _
server=$1 end=$2
shift 2
kill -"$end" "$server"
for _ in $(seq 100); do kill -0 "$server" && sleep 0.1; done
kill -KILL "$server"
rm -rf "$@"
"""


def program(name: str, *, package: str, folders: Sequence[Path] = ()) -> str:
    """The path of a program of the Debian package `package`; without it the test fails."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin", *map(str, folders)])
    if (found := shutil.which(name, path=path)) is None:
        pytest.fail(f"{name} is not installed; apt-get install {package}")
    return found


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    folder: Path,
    is_up: Callable[[], bool],
    environment: dict[str, str] | None = None,
    end_signal: int = signal.SIGTERM,
    leaves: Sequence[Path] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, ended with the block; its output lies in `folder`/log.

    It ends, too, when this process is killed, and what it `leaves` goes with it. A server that ends
    before `is_up`, or does not come up, fails the test with its log.
    """
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=log, cwd=folder, env=environment
        ) as server,
        _guarded(server, end_signal, leaves),
    ):
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not is_up():
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.05)
            yield server
        finally:
            server.send_signal(end_signal)
            try:
                server.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()


@contextlib.contextmanager
def _guarded(
    server: subprocess.Popen[bytes], end_signal: int, leaves: Sequence[Path]
) -> Iterator[None]:
    """Another process ends the server where this one does not come to it."""
    told = (server.pid, int(end_signal), *leaves)
    command = ["sh", "-c", _GUARD, "guard", *map(str, told)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd="/", start_new_session=True
    ) as guard:
        try:
            yield
        finally:
            guard.kill()
