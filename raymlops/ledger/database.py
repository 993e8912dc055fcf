"""Connections to the ledger's database: short write transactions, reads that never block them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from raymlops.errors import LedgerError
from raymlops.ledger import schema

_BUSY_TIMEOUT_S = 60

_SCHEMA = "schema"

# Writers queue, from the first statement of their transaction to its end. So a version is numbered
# and a decision chained on what is newest, and in SQLite no writer that read first fails with
# "database is locked". The number is this ledger's key among PostgreSQL's advisory locks.
_TAKE_WRITE_LOCK = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(7241905)",
}


def now() -> datetime:
    return datetime.now(UTC)


class Database:
    """One engine; `write()` is a transaction that holds the write lock from its first statement.

    Raises:
        LedgerError: the URL is malformed, the database cannot be reached, or it was written by a
            newer raymlops.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise LedgerError(
                f"ledger.url '{url}' is no database URL, e.g. sqlite:///ledger.db"
            ) from error
        backend = parsed.get_backend_name()
        if backend not in _TAKE_WRITE_LOCK:
            known = " and ".join(_TAKE_WRITE_LOCK)
            raise LedgerError(f"ledger.url names {backend}; the ledger is kept by {known}")
        if backend == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._engine = create_engine(parsed)
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"ledger.url names {parsed.drivername}, but {error.name} is not installed; "
                "`pip install raymlops[integrations]`"
            ) from error
        if backend == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
        event.listen(self._engine, "begin", partial(_take_write_lock, _TAKE_WRITE_LOCK[backend]))
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            self._prepare_schema()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end of the block, rolled back by an exception."""
        with self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _prepare_schema(self) -> None:
        """Makes the tables, or brings older ones up to date; an up-to-date ledger is only read."""
        try:
            found = self._schema_version()
            if found is None or found < schema.SCHEMA_VERSION:
                with self.write() as connection:
                    _bring_up_to_date(connection)
        except DBAPIError as error:
            raise LedgerError(
                f"the ledger at {self._shown_url()} cannot be opened: {error.orig}"
            ) from error
        if found is not None and found > schema.SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger at {self._shown_url()} has schema {found}, this raymlops reads "
                f"schema {schema.SCHEMA_VERSION}; use the raymlops that wrote it, or a newer one"
            )

    def _schema_version(self) -> int | None:
        with self.read() as connection:
            return _schema_version(connection)

    def _shown_url(self) -> str:
        return make_url(self.url).render_as_string(hide_password=True)


def _schema_version(connection: Connection) -> int | None:
    """None when the database holds no ledger yet."""
    if not inspect(connection).has_table(schema.meta.name):
        return None
    value = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == _SCHEMA))
    return None if value is None else int(value)


def _bring_up_to_date(connection: Connection) -> None:
    found = _schema_version(connection)  # another process may have been quicker
    current = str(schema.SCHEMA_VERSION)
    if found is None:
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.meta), {"key": _SCHEMA, "value": current})
    elif found < schema.SCHEMA_VERSION:
        from raymlops.ledger import migrations

        migrations.upgrade(connection, found)
        connection.execute(
            update(schema.meta).where(schema.meta.c.key == _SCHEMA).values(value=current)
        )


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by _take_write_lock alone
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_S * 1000}",
        "journal_mode=WAL",
        "synchronous=FULL",  # an acknowledged write survives a power cut
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _take_write_lock(statement: str, connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(statement)
