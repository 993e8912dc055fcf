"""Engines of the two databases a ledger is kept in, as it needs them."""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, StaticPool

from raymlops.config import SecretUrl
from raymlops.errors import LedgerError
from raymlops.ledger import schema
from raymlops.ledger.read_only import is_read_only, read_without_writing
from raymlops.ledger.turns import PATIENCE_S, in_turn

# Writers queue, from the first statement of their transaction to its end. So a version is numbered
# and a decision chained on what is newest, and in SQLite no writer that read first fails with
# "database is locked". The number is this ledger's key among PostgreSQL's advisory locks.
_TAKE_WRITE_LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(7241905)",
}

# A cut cable says nothing: without these a client waits for two hours for an answer that was lost
# on the way, and a server as long for a writer whose machine is gone, with all others behind it.
_SILENCE_S = 30
_CLIENT_SIDE = {
    "connect_timeout": 10,
    "keepalives_idle": _SILENCE_S // 2,
    "keepalives_interval": _SILENCE_S // 6,
    "keepalives_count": 3,
    "tcp_user_timeout": _SILENCE_S * 1000,
}
_SERVER_SIDE = {
    "tcp_keepalives_idle": f"{_SILENCE_S // 2}s",
    "tcp_keepalives_interval": f"{_SILENCE_S // 6}s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{_SILENCE_S}s",
    "idle_in_transaction_session_timeout": f"{PATIENCE_S:g}s",
}
_LIBPQ = ("psycopg", "psycopg2")


def parse_url(url: str) -> URL:
    """Raises LedgerError unless `url` names a database the ledger can be kept in."""
    no_url = LedgerError(
        f"ledger.url '{SecretUrl(url)}' is no database URL, e.g. sqlite:///ledger.db or "
        "postgresql://USER@HOST:5432/NAME"
    )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise no_url from None  # SQLAlchemy's own error repeats the URL, and the password in it
    backend = parsed.get_backend_name()
    if backend not in _TAKE_WRITE_LOCK:
        known = " and ".join(_TAKE_WRITE_LOCK)
        raise LedgerError(f"ledger.url names {backend}; the ledger is kept by {known}")
    if backend == "sqlite" and parsed.host:  # as of sqlite://ledger.db, which lacks a slash
        raise no_url
    try:
        parsed.get_dialect()
    except NoSuchModuleError:
        raise LedgerError(
            f"ledger.url names {parsed.drivername}, which SQLAlchemy does not know: write {backend}"
        ) from None
    return parsed


def make_engine(parsed: URL) -> Engine:
    """Its transactions hold the write lock from their first statement; connections that commit each
    statement by themselves take none.

    Raises:
        LedgerError: the driver is not installed.
    """
    backend, path = parsed.get_backend_name(), parsed.database
    read_only = backend == "sqlite" and path is not None and is_read_only(path)
    try:
        engine = create_engine(
            parsed,
            pool_pre_ping=backend == "postgresql",
            # One that was opened while nobody wrote would not see who does.
            poolclass=NullPool if read_only else None,
            connect_args=_noticing_silence(parsed),
        )
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"ledger.url names {parsed.drivername}, but {error.name} is not installed; "
            "`pip install raymlops[integrations]`"
        ) from error
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        if read_only and path is not None:
            read_without_writing(engine, path)
    elif parsed.get_driver_name() == "psycopg":
        event.listen(engine, "do_connect", _connect_listening)
    if backend == "postgresql" and "options" not in parsed.query:  # a URL's own settings hold
        event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", functools.partial(_take_write_lock, _TAKE_WRITE_LOCK[backend]))
    return engine


@functools.cache
def nothing() -> Engine:
    """What is read of a ledger that nobody has made."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    schema.metadata.create_all(engine)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by _take_write_lock alone
    for pragma in (
        f"busy_timeout={PATIENCE_S * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",  # an acknowledged write survives a power cut
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _noticing_silence(url: URL) -> dict[str, int]:
    """What the driver is told of the network, but what the URL says itself."""
    if url.get_driver_name() not in _LIBPQ:
        return {}
    return {key: value for key, value in _CLIENT_SIDE.items() if key not in url.query}


def _connect_listening(
    _: Dialect, __: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
) -> Any:
    from raymlops.ledger.silence import ListeningConnection  # needs the driver, which is an extra

    return ListeningConnection.connect(*arguments, **options)


def _prepare_postgresql(connection: Any, _: ConnectionPoolEntry) -> None:
    with connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET {key} = '{value}'" for key, value in _SERVER_SIDE.items()))
    connection.commit()


def _take_write_lock(statement: str, connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        in_turn(driver, connection.engine.url, lambda: driver.execute(statement))
    else:
        connection.exec_driver_sql(statement)
