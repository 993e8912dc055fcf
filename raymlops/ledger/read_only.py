"""A SQLite ledger that this process may read and not write, as in the home of a colleague, or on a
disk that is full.

SQLite reads a database with a log of its writes by a third file, which all who have it open share.
Where none is open there is none, and who cannot make it is refused. But then nothing is in the log
either, and the file alone says everything: it is read as one that nobody changes meanwhile.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

_SHARED_BYTES = 32 * 1024
"""What the third file has from its beginning."""


def is_read_only(path: str) -> bool:
    """Whether there is a ledger at `path` to which this process can write nothing, since file or
    folder are others', or no room is left."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.exists(path):
        return False
    return not (os.access(path, os.W_OK) and os.access(folder, os.W_OK)) or is_full(folder)


def read_without_writing(engine: Engine, path: str) -> None:
    """Has each connection of `engine` look anew whether that is so, and somebody has it open."""

    def connect(
        _: Dialect, __: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        if is_read_only(path) and _is_settled(path):
            arguments[0] = f"file:{quote(os.path.abspath(path))}?immutable=1"
            options["uri"] = True

    event.listen(engine, "do_connect", connect)


def is_full(folder: str) -> bool:
    """Whether the disk of `folder` has no room for this process, but for a few KiB."""
    disk = os.statvfs(folder)
    blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail  # the last ones are root's
    return blocks * disk.f_frsize < _SHARED_BYTES


def _is_settled(path: str) -> bool:
    """Whether the log is empty, and the third file at most what somebody began who had no room."""
    return _size(f"{path}-wal") == 0 and _size(f"{path}-shm") < _SHARED_BYTES


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
