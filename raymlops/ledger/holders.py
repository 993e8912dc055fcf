"""Which process has a SQLite ledger's write lock, by what the kernel tells of locks.

Without opening a file: to close it again would let go of the locks that this process has on it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import URL, make_url

_KERNELS_LOCKS = Path("/proc/locks")
_WRITE_LOCK = "120"
"""The byte of the -shm file that a writer locks (walformat.html, 2.3.1 of SQLite's documents)."""


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
    try:
        inode = str(os.stat(f"{path}-shm").st_ino)
        locks = _KERNELS_LOCKS.read_text().splitlines()
    except OSError:
        return None
    for lock in locks:
        # 1: POSIX  ADVISORY  WRITE 5944 fe:00:3041596 120 120; one that is waited for has "->"
        match lock.split():
            case [_, "POSIX", _, "WRITE", pid, file, str(first), _] if (
                first == _WRITE_LOCK and file.rpartition(":")[2] == inode
            ):
                return _process(int(pid))
    return None


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
