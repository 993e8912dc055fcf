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
    Integer,
    MetaData,
    String,
    Table,
    Text,
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


_STEPS: dict[int, Callable[[Operations], None]] = {2: _to_2}
