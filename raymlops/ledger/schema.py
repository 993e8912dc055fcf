"""The tables: one schema for tracking, registry, lineage and audit.

    texts ◄── runs ──► params, metrics,   predictions ──► model_versions
                │ ▲    tags, artifacts                           ▲
     run_inputs ┘ └── model_versions ◄── alias_moves ──► decisions ◄── trusted
        │                                releases ─────►    ▲
     datasets, checks                    traffic ───────────┘

Decisions are chained by digests, see `audit`, and the rows that matter most carry the digest of
one, see `seals`. Rows are added, never rewritten; what changes in place is the end and the
heartbeat of a run, its tags, and how a release stands. Bulky text that many rows share
(configuration, environment, signatures) lies once in `texts` under its digest. `fences` holds the
largest token written under each lock, `requests` what was answered to whom may ask again.

A change here is a new SCHEMA_VERSION with a step in `migrations`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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

SCHEMA_VERSION = 4

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
    Column("manifest", String, nullable=False, index=True),
    Column("fields", JSON, nullable=False),
    Column("num_rows", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("format", String, nullable=False, server_default="parquet"),
    Column("source", JSON(none_as_null=True)),
    Column("statistics", JSON(none_as_null=True)),
)

checks = Table(
    "checks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("dataset_name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("column", String, nullable=False),
    Column("rule", Text, nullable=False),
    Column("num_broken", BigInteger, nullable=False),
    Column("num_rows", BigInteger, nullable=False),
    Column("examples", JSON, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("checks_by_dataset", "dataset_name", "digest"),
)

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

model_versions = Table(
    "model_versions",
    metadata,
    Column("model", String, primary_key=True),
    Column("major", Integer, primary_key=True),
    Column("minor", Integer, primary_key=True),
    Column("patch", Integer, primary_key=True),
    Column("bundle", String, nullable=False, index=True),
    Column("signature_digest", ForeignKey("texts.digest"), nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False, index=True),
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

trusted = Table(
    "trusted",
    metadata,
    Column("digest", String, primary_key=True),
    Column("decision_id", ForeignKey("decisions.id"), nullable=False),
)

fences = Table(
    "fences",
    metadata,
    Column("name", String, primary_key=True),
    Column("token", BigInteger, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("id", String, primary_key=True),
    Column("answer", Text, nullable=False),
    Column("at", UtcTime, nullable=False, index=True),
)

mirrored = Table(
    "mirrored",
    metadata,
    Column("mirror", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", JSON, nullable=False),
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
    Column("slices", LargeBinary),
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

waiting_labels = Table(
    "waiting_labels",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("at", UtcTime, nullable=False),
    Index("waiting_labels_by_model", "model", "at"),
)

joins = Table(
    "joins",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String, nullable=False),
    Column("request_id", String, nullable=False, unique=True),
    Index("joins_by_model", "model", "id"),
)

join_counts = Table(
    "join_counts",
    metadata,
    Column("model", String, primary_key=True),
    Column("fate", String, primary_key=True),
    Column("num", BigInteger, nullable=False),
)

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

considered = Table(
    "considered",
    metadata,
    Column("model", String, primary_key=True),
    Column("window_end", UtcTime, nullable=False),
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
