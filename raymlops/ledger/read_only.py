"""A SQLite ledger that this process may read and not write, as in the home of a colleague.

SQLite reads a database with a log of its writes by a third file, which all who have it open share.
Where none is open there is none, and who may not make it is refused. But then nothing is in the log
either, and the file alone says everything: it is read as one that nobody changes meanwhile.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry


def is_read_only(path: str) -> bool:
    """Whether there is a ledger at `path` whose file or folder this process cannot write."""
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.exists(path) and not (os.access(path, os.W_OK) and os.access(folder, os.W_OK))


def read_without_writing(engine: Engine, path: str) -> None:
    """Has each connection of `engine` look anew whether somebody has the file open."""

    def connect(
        _: Dialect, __: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        if not os.path.exists(f"{path}-wal"):
            arguments[0] = f"file:{quote(os.path.abspath(path))}?immutable=1"
            options["uri"] = True

    event.listen(engine, "do_connect", connect)
