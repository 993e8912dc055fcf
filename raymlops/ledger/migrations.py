"""The way from every older schema to this one, a step a version.

A ledger is brought up to date when it is opened, in the transaction that holds the write lock:
either the whole way is taken or none of it, and no other process sees it half done. A step spells
its tables out and is never changed again: `schema` moves on, and a step must not.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
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
    delete,
    func,
    insert,
    select,
)

from raymlops.ledger import seals
from raymlops.ledger.schema import SCHEMA_VERSION
from raymlops.ledger.types import UtcTime

_SEALED_SINCE = 2


def upgrade(connection: Connection, found: int) -> None:
    """Takes a database of schema `found` to `SCHEMA_VERSION`, in the caller's transaction."""
    operations = Operations(MigrationContext.configure(connection))
    for version in range(found + 1, SCHEMA_VERSION + 1):
        _STEPS[version](operations)
    if found < _SEALED_SINCE:
        seals.seal_all(connection)


def _to_2(operations: Operations) -> None:
    """Parameters become rows that can be searched; runs get a process, tags and artifacts."""
    create, add = operations.create_table, operations.add_column
    add("datasets", Column("format", String, nullable=False, server_default="parquet"))
    add("datasets", Column("source", JSON))
    add("datasets", Column("statistics", JSON))
    with operations.batch_alter_table("datasets") as table:  # SQLite can only copy a table
        table.alter_column("num_rows", type_=BigInteger, existing_nullable=False)
        table.alter_column("size_bytes", type_=BigInteger, existing_nullable=False)
    add("runs", Column("host", String))
    add("runs", Column("pid", Integer))
    add("runs", Column("process_started_at", Float(53)))
    add("runs", Column("heartbeat_at", UtcTime))
    create(
        "checks",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("dataset_name", String, nullable=False),
        Column("digest", String, nullable=False),
        Column("column", String, nullable=False),
        Column("rule", Text, nullable=False),
        Column("num_broken", BigInteger, nullable=False),
        Column("num_rows", BigInteger, nullable=False),
        Column("examples", JSON, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("checks_by_dataset", "checks", ["dataset_name", "digest"])
    params = create(
        "params",
        Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("value", JSON, nullable=False),
        Column("number", Float(53)),
        Column("text", String),
    )
    operations.create_index("params_by_number", "params", ["name", "number"])
    operations.create_index("params_by_text", "params", ["name", "text"])
    create(
        "tags",
        Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("value", Text, nullable=False),
    )
    create(
        "artifacts",
        Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("digest", String, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("ix_artifacts_digest", "artifacts", ["digest"])
    create(
        "trusted",
        Column("digest", String, primary_key=True),
        Column("decision_id", Integer, ForeignKey("decisions.id"), nullable=False),
    )
    create(
        "fences",
        Column("name", String, primary_key=True),
        Column("token", BigInteger, nullable=False),
    )
    create(
        "requests",
        Column("id", String, primary_key=True),
        Column("answer", Text, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("ix_requests_at", "requests", ["at"])
    create(
        "mirrored",
        Column("mirror", String, primary_key=True),
        Column("kind", String, primary_key=True),
        Column("key", String, primary_key=True),
        Column("value", JSON, nullable=False),
    )
    operations.create_index("ix_model_versions_bundle", "model_versions", ["bundle"])
    operations.create_index("ix_model_versions_run_id", "model_versions", ["run_id"])
    operations.create_index("ix_datasets_manifest", "datasets", ["manifest"])
    operations.create_index(
        "run_inputs_by_dataset", "run_inputs", ["dataset_name", "dataset_version"]
    )
    _move_params(operations.get_bind(), params)
    operations.drop_column("runs", "params")


def _move_params(connection: Connection, params: Table) -> None:
    runs = Table("runs", MetaData(), Column("id", String), Column("params", JSON))
    rows = [
        {
            "run_id": run.id,
            "name": name,
            "value": value,
            "number": float(value) if isinstance(value, int | float) else None,
            "text": value if isinstance(value, str) else None,
        }
        for run in connection.execute(select(runs))
        for name, value in run.params.items()
    ]
    if rows:
        connection.execute(insert(params), rows)


def _to_3(operations: Operations) -> None:
    """Labels that wait for their prediction go into a table of their own; what has joined becomes
    a log, for the detectors of concept drift; performance by slice."""
    create = operations.create_table
    operations.add_column("predictions", Column("slices", LargeBinary))
    waiting = create(
        "waiting_labels",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("request_id", String, nullable=False, unique=True),
        Column("model", String, nullable=False),
        Column("labels", LargeBinary, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("waiting_labels_by_model", "waiting_labels", ["model", "at"])
    joins = create(
        "joins",
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("model", String, nullable=False),
        Column("request_id", String, nullable=False, unique=True),
    )
    operations.create_index("joins_by_model", "joins", ["model", "id"])
    create(
        "join_counts",
        Column("model", String, primary_key=True),
        Column("fate", String, primary_key=True),
        Column("num", BigInteger, nullable=False),
    )
    create(
        "watches",
        Column("model", String, primary_key=True),
        Column("position", Integer, nullable=False),
        Column("state", JSON, nullable=False),
    )
    create(
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
    create(
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


def _to_4(operations: Operations) -> None:
    """Replicas are forgotten, the longest silent first; which windows an operator has considered
    is remembered, and those there are have been."""
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


def _to_5(operations: Operations) -> None:
    """Request ids are the clients', who may ask several models about one thing: predictions,
    labels and joins are those of a model and an id."""
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


_KEY = ["request_id", "model"]


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


_STEPS: dict[int, Callable[[Operations], None]] = {2: _to_2, 3: _to_3, 4: _to_4, 5: _to_5}
