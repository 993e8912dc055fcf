"""Inserting rows some of which may be there already, in either database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite

# SQLAlchemy has a statement of its own for each, with the same methods.
_INSERT: Mapping[str, Callable[[Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows whose key is not there yet, the first of each."""
    if rows:
        statement = _INSERT[connection.dialect.name](table).on_conflict_do_nothing()
        connection.execute(statement, list(rows))


def insert_new_values(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]
) -> None:
    """As `insert_new`, of values of `columns` as the driver takes them: a tenth of its time."""
    sql, is_positional = _insert_new_sql(connection.dialect, table, columns)
    given = list(rows) if is_positional else [dict(zip(columns, row, strict=True)) for row in rows]
    if given:
        connection.exec_driver_sql(sql, given)


def insert_or_update(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Inserts the rows; where the primary key is there already, the other columns are replaced."""
    if rows:
        connection.execute(_replacing(connection.dialect.name, table, tuple(rows[0])), list(rows))


def add_counts(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds the `num` of each row to what is there under its primary key."""
    if rows:
        statement = _INSERT[connection.dialect.name](table)
        keys = [column.name for column in table.primary_key]
        total = {"num": table.c.num + statement.excluded.num}
        connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=total), list(rows)
        )


@lru_cache(maxsize=32)
def _replacing(backend: str, table: Table, columns: tuple[str, ...]) -> Any:
    statement = _INSERT[backend](table)
    keys = [column.name for column in table.primary_key]
    others = {name: statement.excluded[name] for name in columns if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


@lru_cache(maxsize=32)
def _insert_new_sql(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> tuple[str, bool]:
    """(the statement, whether it takes its values by position)."""
    statement = _INSERT[dialect.name](table).on_conflict_do_nothing().inline()
    compiled = statement.compile(dialect=dialect, column_keys=list(columns))
    assert compiled.positiontup is None or tuple(compiled.positiontup) == columns, (
        "columns are given in the table's order"
    )
    return str(compiled), compiled.positiontup is not None
