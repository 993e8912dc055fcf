"""What the database or its driver refuses, told as ours: without SQL, values and password."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from raymlops.config import SecretUrl, redact
from raymlops.errors import LedgerError, RefusedError
from raymlops.ledger.holders import writer_of
from raymlops.ledger.turns import PATIENCE_S, is_busy

# PostgreSQL's class of what exceeds its limits, such as a text too long for an index.
_PROGRAM_LIMIT = "54"

_WAY_OUT = {
    "sqlite": "see that the file can be read and written, and that its disk is not full",
    "postgresql": "see that the server runs and can be reached, then ask again",
}

_FEWER = "end programs that hold connections, or raise the limit, as by its max_connections"

# Texts, since a refused connection has no code; of a server that speaks another language they are
# not known, and the way out is that of all others.
_WAYS_OUT_OF_SERVERS = {
    "too many clients": _FEWER,
    "too many connections": _FEWER,
    "connection slots are reserved": _FEWER,
    "read-only transaction": "it is a standby, or was made so: ledger.url has to name the server "
    "that takes writes",
    "No space left on device": "free some of the server's disk, then ask again",
}


@contextlib.contextmanager
def told_as_ours(engine: Engine, url: str, what: str) -> Iterator[None]:
    """Of the ledger at `url` it is said that it did `what`, where another time it may do better.

    Raises:
        LedgerError: the database did not do what the block asked of it.
        RefusedError: it never will.
    """
    driver = engine.dialect.loaded_dbapi
    try:
        yield
    except (DBAPIError, PoolTimeout, driver.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        told = f"the ledger at {SecretUrl(url)}"
        said = redact(" ".join(str(cause).split()))
        if (why := _never_stored(cause, driver)) is not None:
            raise RefusedError(f"{told} refused a row: {said}; {why}") from error
        raise LedgerError(f"{told} {what}: {said}; {_way_out(engine, url, cause)}") from error
    except UnicodeEncodeError as error:
        told = f"the ledger at {SecretUrl(url)}"
        raise RefusedError(f"{told} takes UTF-8, which a text is not: {error.object!r}") from error
    except StatementError as error:
        raise error.orig or error from None


def _way_out(engine: Engine, url: str, cause: BaseException | None) -> str:
    if is_busy(cause) and (writer := writer_of(url)) is not None:
        return f"all others have waited {PATIENCE_S:g} s for {writer}"
    said = str(cause)
    ways = (way for sign, way in _WAYS_OUT_OF_SERVERS.items() if sign in said)
    return next(ways, _WAY_OUT[engine.name])


def _never_stored(cause: BaseException | None, driver: Any) -> str | None:
    """Why the database can never take a row; None where another time it may."""
    if isinstance(cause, driver.IntegrityError):
        return "it contradicts what the ledger holds"
    is_too_large = (getattr(cause, "sqlstate", None) or "").startswith(_PROGRAM_LIMIT)
    if isinstance(cause, driver.DataError) or is_too_large:
        return "it holds a value that its column cannot"
    return None
