"""What replicas answered, what came true, and how the two join.

Request ids are the clients', who may ask several models about one thing: each id is a model's.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Date,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from raymlops.ledger.schema.base import metadata
from raymlops.ledger.types import UtcTime

predictions = Table(
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
)

labels = Table(
    "labels",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("labels", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False),
)

waiting_labels = Table(
    "waiting_labels",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("request_id", "model"),
    Index("waiting_labels_by_model", "model", "at"),
)

joins = Table(
    "joins",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("request_id", String, nullable=False),
    UniqueConstraint("request_id", "model"),
    Index("joins_by_model", "model", "id"),
)

join_counts = Table(
    "join_counts",
    metadata,
    Column("model", String, primary_key=True),
    Column("fate", String, primary_key=True),
    Column("num", BigInteger, nullable=False),
)

panes = Table(
    "panes",
    metadata,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("arm", String, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("num_rows", Integer, nullable=False),
    Column("num_failed", Integer, nullable=False),
    Column("cells", LargeBinary, nullable=False),
    Column("latency", JSON, nullable=False),
)

tap_offsets = Table(
    "tap_offsets",
    metadata,
    Column("replica", String, primary_key=True),
    Column("next_sequence", Integer, nullable=False),
    Column("heard_at", UtcTime),
)
