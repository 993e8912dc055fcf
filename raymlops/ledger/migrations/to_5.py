"""To schema 5: predictions, labels and joins are those of a model and a request id.

Request ids are the clients', who may ask several models about one thing.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from raymlops.ledger.types import UtcTime

_KEY = ["request_id", "model"]


def upgrade(operations: Operations) -> None:
    for table in _keyed_by_model():
        constraint = next(iter(table.constraints - {table.primary_key}), None)
        if operations.get_bind().dialect.name == "sqlite":  # where a key cannot be changed
            with operations.batch_alter_table(table.name, copy_from=table, recreate="always"):
                pass
        elif constraint is None:
            operations.drop_constraint(f"{table.name}_pkey", table.name, type_="primary")
            operations.create_primary_key(f"{table.name}_pkey", table.name, _KEY)
        else:
            operations.drop_constraint(f"{table.name}_request_id_key", table.name, type_="unique")
            operations.create_unique_constraint(None, table.name, _KEY)


def _keyed_by_model() -> tuple[Table, ...]:
    metadata = MetaData()
    return (
        Table(
            "predictions",
            metadata,
            Column("request_id", String, primary_key=True),
            Column("model", String, primary_key=True),
            Column("version", String, nullable=False),
            Column("arm", String, nullable=False),
            Column("num_rows", Integer, nullable=False),
            Column("scores", LargeBinary, nullable=False),
            Column("served_at", UtcTime, nullable=False),
            Column("event_time", UtcTime, nullable=False),
            Column("replica", String, nullable=False),
            Column("slices", LargeBinary),
            Index("predictions_by_event_time", "model", "event_time"),
        ),
        Table(
            "labels",
            metadata,
            Column("request_id", String, primary_key=True),
            Column("model", String, primary_key=True),
            Column("labels", LargeBinary, nullable=False),
            Column("at", UtcTime, nullable=False),
        ),
        Table(
            "waiting_labels",
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=True),
            Column("request_id", String, nullable=False),
            Column("model", String, nullable=False),
            Column("labels", LargeBinary, nullable=False),
            Column("at", UtcTime, nullable=False),
            UniqueConstraint("request_id", "model"),
            Index("waiting_labels_by_model", "model", "at"),
        ),
        Table(
            "joins",
            metadata,
            Column("id", Integer, primary_key=True, autoincrement=True),
            Column("model", String, nullable=False),
            Column("request_id", String, nullable=False),
            UniqueConstraint("request_id", "model"),
            Index("joins_by_model", "model", "id"),
        ),
    )
