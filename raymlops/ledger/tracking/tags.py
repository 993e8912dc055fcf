"""Tags of runs: words people hang on them, which may change."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from raymlops.ledger.schema import tags


def replace(connection: Connection, run_id: str, values: Mapping[str, str]) -> None:
    """Sets tags of a run; those it has under other names stay."""
    row = tags.c
    connection.execute(delete(tags).where(row.run_id == run_id, row.name.in_(list(values))))
    if values:
        rows = [{"run_id": run_id, "name": name, "value": value} for name, value in values.items()]
        connection.execute(insert(tags), rows)


def read(connection: Connection, run_id: str) -> dict[str, str]:
    """By name, in the order of the names."""
    query = select(tags.c.name, tags.c.value).where(tags.c.run_id == run_id)
    return {each.name: each.value for each in connection.execute(query.order_by(tags.c.name))}
