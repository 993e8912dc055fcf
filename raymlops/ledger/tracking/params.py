"""Parameters of runs as rows that can be searched by number and by text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from raymlops.ledger import schema
from raymlops.ledger.groups import groups


def rows(run_id: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a parameter: its value as JSON, and as a number or a text if it is one."""
    return [
        {
            "run_id": run_id,
            "name": name,
            "value": value,
            "number": float(value) if isinstance(value, int | float) else None,
            "text": value if isinstance(value, str) else None,
        }
        for name, value in params.items()
    ]


def read(connection: Connection, run_ids: Collection[str]) -> Mapping[str, dict[str, Any]]:
    """Parameters by name, by run; in the order of their names."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for ids in groups(run_ids):
        query = select(schema.params).where(schema.params.c.run_id.in_(ids))
        for row in connection.execute(query.order_by(schema.params.c.name)):
            found[row.run_id][row.name] = row.value
    return found
