"""Traffic tables as rows: each is a generation, and the newest of a model is followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from raymlops.ledger.database import now
from raymlops.ledger.schema import traffic


def publish(connection: Connection, model: str, table: Mapping[str, Any]) -> int:
    """Adds a table in the caller's transaction; returns its generation."""
    row = {"model": model, "table": dict(table), "at": now()}
    key = connection.execute(insert(traffic), row).inserted_primary_key
    assert key is not None, "an insert of one row has a key"
    generation: int = key[0]
    return generation


def published(connection: Connection, model: str) -> tuple[int, Mapping[str, Any]] | None:
    """The newest (generation, table); None before the first and once it was withdrawn."""
    query = select(traffic).where(traffic.c.model == model)
    row = connection.execute(query.order_by(traffic.c.generation.desc()).limit(1)).first()
    return None if row is None or not row.table else (row.generation, row.table)


def outnumber(connection: Connection, model: str, generation: int) -> int | None:
    """The newest table once more, by a number above `generation`, unless it has one; None where
    there is no table.

    One by one, since only the database knows its next number.
    """
    found = published(connection, model)
    if found is None:
        return None
    number, table = found
    while number <= generation:
        number = publish(connection, model, table)
    return number


def replace(connection: Connection, model: str, table: Mapping[str, Any]) -> None:
    """As `publish`, where the model has traffic."""
    if published(connection, model) is not None:
        publish(connection, model, table)
