"""Coordination for one machine, with no server: the kernel's file locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from raymlops.coordination.base import Lease
from raymlops.errors import CoordinationError

_POLL_S = 0.05


class EmbeddedCoordinator:
    """Locks as files in `folder`, on a local disk (file locks over NFS cannot be trusted).

    Each file holds the token and the process id of its latest holder. The kernel releases a lock
    when its holder dies, however it dies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def hold(self, name: str, *, timeout_s: float) -> Iterator[Lease]:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(file, name, timeout_s)
            token = _read(file)[0] + 1
            _write(file, token)
            yield Lease(name=name, token=token)
        finally:
            os.close(file)  # closing the file releases the lock

    def _lock(self, file: int, name: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise CoordinationError(
                        f"'{name}' is held by process {_read(file)[1]} on this machine; "
                        f"waited {timeout_s:g} s"
                    ) from error
                time.sleep(_POLL_S)


def _read(file: int) -> tuple[int, int]:
    """(token, process id) of the latest holder."""
    text = os.pread(file, 64, 0).decode().split()
    return (int(text[0]), int(text[1])) if len(text) == 2 else (0, 0)


def _write(file: int, token: int) -> None:
    os.pwrite(file, f"{token:020d} {os.getpid():010d}\n".encode(), 0)
    os.fsync(file)
