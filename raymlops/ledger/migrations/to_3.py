"""To schema 3: labels that wait, a log of what has joined, detectors of concept drift, slices.

Labels that wait for their prediction go into a table of their own; what has joined becomes a log,
for the detectors; performance is kept by slice.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    select,
)

from raymlops.ledger.types import UtcTime


def upgrade(operations: Operations) -> None:
    _log_joins(operations)
    _watch_concepts(operations)
    _slice_performance(operations)


def _log_joins(operations: Operations) -> None:
    waiting = operations.create_table(
        "waiting_labels",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("request_id", String, nullable=False, unique=True),
        Column("model", String, nullable=False),
        Column("labels", LargeBinary, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("waiting_labels_by_model", "waiting_labels", ["model", "at"])
    joins = operations.create_table(
        "joins",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("model", String, nullable=False),
        Column("request_id", String, nullable=False, unique=True),
    )
    operations.create_index("joins_by_model", "joins", ["model", "id"])
    operations.create_table(
        "join_counts",
        Column("model", String, primary_key=True),
        Column("fate", String, primary_key=True),
        Column("num", BigInteger, nullable=False),
    )
    _split_labels(operations.get_bind(), waiting, joins)


def _split_labels(connection: Connection, waiting: Table, joins: Table) -> None:
    names = ("request_id", "model", "labels", "at")
    kinds = (String, String, LargeBinary, UtcTime)
    labels = Table(
        "labels", MetaData(), *(Column(*each) for each in zip(names, kinds, strict=True))
    )
    predictions = Table("predictions", MetaData(), Column("request_id", String))
    has_prediction = labels.c.request_id.in_(select(predictions.c.request_id))
    pairs = select(labels.c.model, labels.c.request_id).where(has_prediction)
    connection.execute(
        insert(joins).from_select(["model", "request_id"], pairs.order_by(labels.c.at))
    )
    connection.execute(insert(waiting).from_select(names, select(labels).where(~has_prediction)))
    connection.execute(delete(labels).where(~has_prediction))


def _watch_concepts(operations: Operations) -> None:
    operations.create_table(
        "watches",
        Column("model", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("state", JSON, nullable=False),
    )
    operations.create_table(
        "concept_alarms",
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
    )
    operations.create_index(
        "concept_alarms_by_version", "concept_alarms", ["model", "version", "id"]
    )


def _slice_performance(operations: Operations) -> None:
    operations.add_column("predictions", Column("slices", LargeBinary))
    operations.create_table(
        "slice_performance",
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
        Column("value", Float(53)),
        Column("low", Float(53)),
        Column("high", Float(53)),
        UniqueConstraint(
            "model", "version", "arm", "window_start", "window_end", "feature", "part", "metric"
        ),
    )
