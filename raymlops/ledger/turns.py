"""The turn of a writer of a SQLite ledger: one writes, all others wait, and soon learn for whom.

SQLite itself waits in silence, and a writer that was stopped is waited for until nobody can.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL

from raymlops.ledger.holders import writer_of

PATIENCE_S = 60.0
"""How long a writer waits for its turn, and whoever else finds the file locked."""
SILENCE_S = 3.0
"""After so long it is told who is waited for: a transaction takes milliseconds."""

_logger = logging.getLogger(__name__)


def is_busy(error: BaseException | None) -> bool:
    """Whether another connection has the lock that was asked for."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def in_turn(connection: sqlite3.Connection, url: URL, write: Callable[[], Any]) -> None:
    """Does `write`, which begins a transaction or is one, once nobody else is within one.

    Raises:
        sqlite3.OperationalError: somebody was for `PATIENCE_S`; or what `write` itself raises.
    """
    deadline = time.monotonic() + PATIENCE_S
    is_told = False
    _wait_at_most(connection, SILENCE_S)
    try:
        while True:
            try:
                write()
                return
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
            if not is_told:
                who = writer_of(url) or "another process"
                _logger.warning("a write to the ledger has waited %g s for %s", SILENCE_S, who)
                is_told = True
    finally:
        _wait_at_most(connection, PATIENCE_S)


def _wait_at_most(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout={seconds * 1000:.0f}")
