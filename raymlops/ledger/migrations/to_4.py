"""To schema 4: replicas are forgotten, the longest silent first; considered windows are known.

Those windows that there are have been considered.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column, MetaData, String, Table, func, insert, select

from raymlops.ledger.types import UtcTime


def upgrade(operations: Operations) -> None:
    operations.add_column("tap_offsets", Column("heard_at", UtcTime))
    considered = operations.create_table(
        "considered",
        Column("model", String, primary_key=True),
        Column("window_end", UtcTime, nullable=False),
    )
    windows = Table(
        "performance", MetaData(), Column("model", String), Column("window_end", UtcTime)
    )
    last = select(windows.c.model, func.max(windows.c.window_end)).group_by(windows.c.model)
    operations.get_bind().execute(insert(considered).from_select(["model", "window_end"], last))
