"""Which processes have a SQLite ledger open, or its write lock, by what the kernel tells of locks.

Without opening a file: to close it again would let go of the locks that this process has on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import URL, make_url

_KERNELS_LOCKS = Path("/proc/locks")
_WRITE_LOCK = "120"
"""The byte of the -shm file that a writer locks (walformat.html, 2.3.1 of SQLite's documents)."""

_SHARED_LOCK = "1073741826"
"""The first byte of the file that all have locked who have it open (pending_byte + 2 in os.h of
SQLite's sources)."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    pid: int
    name: str
    is_stopped: bool

    def __str__(self) -> str:
        told = f"process {self.pid} ({self.name})"
        if not self.is_stopped:
            return told
        return (
            f"{told}, which was stopped: `kill -CONT {self.pid}` lets it go on, `kill -KILL "
            f"{self.pid}` takes back what it had not committed"
        )


def writer_of(url: str | URL) -> Holder | None:
    """Who is within a write transaction of the ledger at `url`; None where nobody is, and where
    the kernel does not say: of another machine, or of PostgreSQL."""
    path = make_url(url).database
    for kind, pid, first in _locks(f"{path}-shm"):
        if (kind, first) == ("WRITE", _WRITE_LOCK):
            return _process(pid)
    return None


def open_in(path: str) -> tuple[int, ...]:
    """The processes that have the ledger at `path` open with a log, this one too; none where the
    kernel does not say."""
    return tuple(sorted({pid for _, pid, first in _locks(path) if first == _SHARED_LOCK}))


def _locks(path: str) -> Iterator[tuple[str, int, str]]:
    """READ or WRITE, whose and from which byte on, of each lock there is on a file."""
    try:
        inode = str(os.stat(path).st_ino)
        locks = _KERNELS_LOCKS.read_text().splitlines()
    except OSError:
        return
    for lock in locks:
        # 1: POSIX  ADVISORY  WRITE 5944 fe:00:3041596 120 120; one that is waited for has "->"
        match lock.split():
            case [_, "POSIX", _, kind, pid, file, first, _] if file.rpartition(":")[2] == inode:
                yield kind, int(pid), first


def _process(pid: int) -> Holder | None:
    try:
        process = psutil.Process(pid)
        return Holder(
            pid=pid,
            name=process.name(),  # its arguments may be secrets
            is_stopped=process.status() == psutil.STATUS_STOPPED,
        )
    except psutil.Error:
        return None
