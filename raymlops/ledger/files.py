"""Which file a SQLite ledger lies in, so that one put in its place is noticed.

Who has a file open goes on with it after another was moved over its name, as when a backup is
restored: reads would tell of what is gone, and writes be acknowledged that nobody finds again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import URL, make_url

from raymlops.errors import LedgerError

_Inode = tuple[int, int]


def sqlite_url(path: Path) -> str:
    """The URL of the ledger in the file `path`, in whose name `?` and `%` are what they are."""
    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    return URL.create("sqlite", database=str(path)).render_as_string()


def absolute_url(url: str) -> str:
    """The same database, whatever folder it is asked from. A path stays as people write it: of a
    percent-encoded one MLflow makes a folder of that name."""
    if not url.startswith("sqlite") or not (database := make_url(url).database):
        return url
    driver = url.partition(":")[0].removeprefix("sqlite")
    _, mark, query = url.partition("?")
    path = sqlite_url(Path(database).resolve()).removeprefix("sqlite")
    return f"sqlite{driver}{path}{mark}{query}"


@dataclass(frozen=True, kw_only=True)
class LedgerFile:
    """The file of a ledger as it was opened, and the log of what was not yet copied into it."""

    path: str
    inode: _Inode | None
    log: _Inode | None

    @classmethod
    def at(cls, path: str) -> Self:
        return cls(path=path, inode=_inode(path), log=_inode(f"{path}-wal"))

    def is_replaced(self) -> bool:
        """Whether its name is now that of another file, or of none; never before it is made."""
        return self.inode is not None and _inode(self.path) != self.inode

    def successor(self) -> Self:
        """The file that has its name now.

        Raises:
            LedgerError: there is none; or the log of the earlier file lies beside it, which SQLite
                would take for that of the new one, and mix their pages.
        """
        found = self.at(self.path)
        if found.inode is None:
            raise LedgerError(
                f"the ledger at {self.path} did not answer: its file was removed or renamed while "
                "it was open; see that the file is there again"
            )
        if found.log is not None and found.log == self.log:
            log = f"{self.path}-wal"
            raise LedgerError(
                f"the ledger at {self.path} did not answer: another file was put in its place "
                f"while it was open, and {log} is of the one before; see that the two are not "
                f"mixed: remove {log} and {self.path}-shm, then put the file there once more"
            )
        return found


def _inode(path: str) -> _Inode | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
