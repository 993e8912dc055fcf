"""Appending rows as quickly as the disk acknowledges them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, Table, insert

from raymlops.ledger.turns import in_turn

_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}


class Appender:
    """Adds rows to a table nobody numbers or chains, so without the ledger's write lock.

    It keeps one connection of the driver and a compiled statement: what is left of a call is the
    statement and its commit. A single row is one autocommitted statement.
    """

    def __init__(self, engine: Engine, table: Table, columns: Sequence[str]) -> None:
        dialect = engine.dialect
        compiled = insert(table).inline().compile(dialect=dialect, column_keys=list(columns))
        self._engine = engine
        self._sql = str(compiled)
        self._by_position = compiled.positional
        self._encoders = [
            (name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or columns
        ]
        self._lock = threading.Lock()
        self._connection: PoolProxiedConnection | None = None
        self._cursor: Any = None

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Every row is on disk when this returns, none when it raises an error of the driver."""
        encoded = [self._encode(row) for row in rows]
        with self._lock:
            try:
                cursor = self._cursor or self._open()
                if len(encoded) == 1:
                    self._in_turn(lambda: cursor.execute(self._sql, encoded[0]))
                    return
                self._in_turn(lambda: cursor.execute(_BEGIN[self._engine.name]))
                cursor.executemany(self._sql, encoded)
                cursor.execute("COMMIT")
            except BaseException:
                self._drop()  # which rolls back what was begun
                raise

    def append_in(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds the rows in the caller's transaction."""
        connection.exec_driver_sql(self._sql, [self._encode(row) for row in rows])

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _in_turn(self, write: Callable[[], Any]) -> None:
        """Begins to write; only SQLite has one writer at a time."""
        assert self._connection is not None, "its cursor was just used"
        if self._engine.name == "sqlite":
            in_turn(self._connection.driver_connection, self._engine.url, write)  # type: ignore[arg-type]  # the driver's own
        else:
            write()

    def _open(self) -> Any:
        """A cursor of a connection that commits each statement."""
        self._connection = self._engine.raw_connection()
        _commit_each_statement(self._connection.driver_connection, self._engine.name)
        self._cursor = self._connection.cursor()
        return self._cursor

    def _drop(self) -> None:
        self._cursor = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()

    def _encode(self, row: Mapping[str, Any]) -> tuple[Any, ...] | dict[str, Any]:
        """What the driver binds: values in the order of the statement, or by name."""
        values = {
            name: encode(row[name]) if encode else row[name] for name, encode in self._encoders
        }
        return tuple(values.values()) if self._by_position else values


def _commit_each_statement(connection: Any, backend: str) -> None:
    """Both drivers begin transactions of their own unless told otherwise, each in its way."""
    if backend == "sqlite":
        connection.isolation_level = None
    else:
        connection.autocommit = True
