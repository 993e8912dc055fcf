"""Runs, with everything they were given and gave."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from raymlops.ledger.schema.base import metadata
from raymlops.ledger.types import Real, UtcTime

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("parent_id", ForeignKey("runs.id"), index=True),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False, index=True),
    Column("status", String, nullable=False),
    Column("commit", String, nullable=False),
    Column("dirty_digest", String),
    Column("config_digest", ForeignKey("texts.digest"), nullable=False),
    Column("environment_digest", ForeignKey("texts.digest"), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("error", Text),
    Column("host", String),
    Column("pid", Integer),
    Column("process_started_at", Float(53)),
    Column("heartbeat_at", UtcTime),
)

params = Table(
    "params",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("number", Float(53)),
    Column("text", String),
    Index("params_by_number", "name", "number"),
    Index("params_by_text", "name", "text"),
)

tags = Table(
    "tags",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("digest", String, nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("at", UtcTime, nullable=False),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("role", String, primary_key=True),
    Column("dataset_name", String, nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Index("run_inputs_by_dataset", "dataset_name", "dataset_version"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("step", Integer, nullable=False),
    Column("value", Real),
    Column("at", UtcTime, nullable=False),
    Index("metrics_by_run", "run_id", "name", "step"),
)
