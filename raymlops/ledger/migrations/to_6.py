"""To schema 6: indexes for what is asked for again and again, whatever the history."""

from __future__ import annotations

from alembic.operations import Operations


def upgrade(operations: Operations) -> None:
    operations.create_index("decisions_by_kind", "decisions", ["model", "kind", "id", "outcome"])
    for table in ("performance", "drift"):
        operations.create_index(f"{table}_by_end", table, ["model", "window_end"])
