"""What the monitor found in the traffic, and where it goes on."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from raymlops.ledger.schema.base import metadata
from raymlops.ledger.types import Real, UtcTime

watches = Table(
    "watches",
    metadata,
    Column("model", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", JSON, nullable=False),
)

concept_alarms = Table(
    "concept_alarms",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("detector", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("event_time", UtcTime, nullable=False),
    Column("num_labels", BigInteger, nullable=False),
    Column("reference_rate", Float(53), nullable=False),
    Column("recent_rate", Float(53), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("concept_alarms_by_version", "model", "version", "id"),
)

performance = Table(
    "performance",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("metric", String, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("value", Real),
    Column("low", Real),
    Column("high", Real),
    UniqueConstraint("model", "version", "arm", "window_start", "window_end", "metric"),
    Index("performance_by_end", "model", "window_end"),
)

drift = Table(
    "drift",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("feature", String, nullable=False),
    Column("test", String, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("effect", Float, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("drifted", Boolean, nullable=False),
    UniqueConstraint("model", "version", "window_start", "window_end", "feature"),
    Index("drift_by_end", "model", "window_end"),
)

slice_performance = Table(
    "slice_performance",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("feature", String, nullable=False),
    Column("part", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("value", Real),
    Column("low", Real),
    Column("high", Real),
    UniqueConstraint(
        "model", "version", "arm", "window_start", "window_end", "feature", "part", "metric"
    ),
)

considered = Table(
    "considered",
    metadata,
    Column("model", String, primary_key=True),
    Column("window_end", UtcTime, nullable=False),
)
