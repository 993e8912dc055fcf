"""The tables of schema 1 as they were, for the test of the way from there; never changed."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from raymlops.ledger.types import Real, UtcTime

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

texts = Table(
    "texts",
    metadata,
    Column("digest", String, primary_key=True),
    Column("text", Text, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String, nullable=False, index=True),
    Column("manifest", String, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("parent_id", ForeignKey("runs.id"), index=True),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False, index=True),
    Column("status", String, nullable=False),
    Column("params", JSON, nullable=False),
    Column("commit", String, nullable=False),
    Column("dirty_digest", String),
    Column("config_digest", ForeignKey("texts.digest"), nullable=False),
    Column("environment_digest", ForeignKey("texts.digest"), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("error", Text),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("role", String, primary_key=True),
    Column("dataset_name", String, nullable=False),
    Column("dataset_version", Integer, nullable=False),
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

model_versions = Table(
    "model_versions",
    metadata,
    Column("model", String, primary_key=True),
    Column("major", Integer, primary_key=True),
    Column("minor", Integer, primary_key=True),
    Column("patch", Integer, primary_key=True),
    Column("bundle", String, nullable=False),
    Column("signature_digest", ForeignKey("texts.digest"), nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("event_time", UtcTime),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("who", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("event_time", UtcTime),
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("version", String, nullable=False),
    Column("decision_id", ForeignKey("decisions.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("event_time", UtcTime),
    Index("alias_moves_by_alias", "model", "alias", "id"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False, index=True),
    Column("champion", String, nullable=False),
    Column("challenger", String, nullable=False),
    Column("strategy", JSON, nullable=False),
    Column("status", String, nullable=False),
    Column("state", JSON, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("event_time", UtcTime),
    Column("ended_at", UtcTime),
)

traffic = Table(
    "traffic",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False, index=True),
    Column("table", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("served_at", UtcTime, nullable=False),
    Column("event_time", UtcTime, nullable=False),
    Column("replica", String, nullable=False),
    Index("predictions_by_event_time", "model", "event_time"),
)

labels = Table(
    "labels",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False),
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
)
