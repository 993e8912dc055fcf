"""Appending rows as quickly as the disk acknowledges them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, Table, insert


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
        self._order: Sequence[str] | None = compiled.positiontup
        self._encoders = {
            name: encode
            for name in columns
            if (encode := table.c[name].type.dialect_impl(dialect).bind_processor(dialect))
        }
        self._lock = threading.Lock()
        self._connection: PoolProxiedConnection | None = None

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Every row is on disk when this returns, none when it raises an error of the driver."""
        encoded = [self._encode(row) for row in rows]
        with self._lock, self._cursor() as cursor:
            if len(encoded) == 1:
                cursor.execute(self._sql, encoded[0])
                return
            cursor.execute("BEGIN")
            cursor.executemany(self._sql, encoded)
            cursor.execute("COMMIT")

    def append_in(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds the rows in the caller's transaction."""
        connection.exec_driver_sql(self._sql, [self._encode(row) for row in rows])

    def close(self) -> None:
        with self._lock:
            self._drop()

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor of a connection that commits each statement; dropped, and so rolled back, when
        anything fails."""
        try:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                _commit_each_statement(self._connection.driver_connection, self._engine.name)
            cursor = self._connection.cursor()
            yield cursor
            cursor.close()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()

    def _encode(self, row: Mapping[str, Any]) -> Mapping[str, Any] | tuple[Any, ...]:
        values = dict(row)
        for name, encode in self._encoders.items():
            values[name] = encode(values[name])
        return values if self._order is None else tuple(values[name] for name in self._order)


def _commit_each_statement(connection: Any, backend: str) -> None:
    """Both drivers begin transactions of their own unless told otherwise, each in its way."""
    if backend == "sqlite":
        connection.isolation_level = None
    else:
        connection.autocommit = True
