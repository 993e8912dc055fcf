"""The log of a SQLite ledger that was removed while the ledger was open.

    ledger.db        what the log held when it was last copied there, which may be nothing
    ledger.db-wal    what was written since; has no name now, and ends with those who have it open

Who opened the ledger would begin another log, see what is in the file alone, and mix both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from raymlops.errors import LedgerError
from raymlops.ledger.holders import open_in


def check_log(path: str) -> None:
    """Returns quietly unless others have the ledger at `path` open with a log that was removed, as
    far as the kernel tells this user.

    Raises:
        LedgerError: so it is; says how what they wrote is saved.
    """
    log = f"{os.path.realpath(path)}-wal"
    if os.path.exists(log):
        return
    copies = {pid: copy for pid in open_in(path) for copy in _opened(f"{log} (deleted)", pid)}
    if not copies:
        return
    numbers = " ".join(map(str, copies))
    raise LedgerError(
        f"the ledger at {path} cannot be opened: its log {log} was removed under those who have it "
        "open, and what was written since it was last copied into the file is in them alone; to "
        f"save it: `kill -STOP {numbers}; cp {next(iter(copies.values()))} {log}; kill -KILL "
        f"{numbers}`, then ask again"
    )


def _opened(file: str, pid: int) -> Iterator[str]:
    """By which paths below /proc process `pid` has that file open; none of another user's."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            if os.readlink(f"{folder}/{name}") == file:
                yield f"{folder}/{name}"
    except OSError:  # it is another's, or has closed something meanwhile
        return
