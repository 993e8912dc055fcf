"""To schema 2: parameters become rows that can be searched; runs get a process, tags, artifacts."""

from __future__ import annotations

from alembic.operations import Operations
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

from raymlops.ledger.types import UtcTime


def upgrade(operations: Operations) -> None:
    _describe_datasets(operations)
    _keep_checks(operations)
    _give_runs_a_process(operations)
    _keep_tags_and_artifacts(operations)
    _keep_trust(operations)
    _keep_what_was_written(operations)
    _index_references(operations)
    _split_params(operations)


def _describe_datasets(operations: Operations) -> None:
    operations.add_column(
        "datasets", Column("format", String, nullable=False, server_default="parquet")
    )
    operations.add_column("datasets", Column("source", JSON))
    operations.add_column("datasets", Column("statistics", JSON))
    with operations.batch_alter_table("datasets") as table:  # SQLite can only copy a table
        table.alter_column("num_rows", type_=BigInteger, existing_nullable=False)
        table.alter_column("size_bytes", type_=BigInteger, existing_nullable=False)


def _give_runs_a_process(operations: Operations) -> None:
    operations.add_column("runs", Column("host", String))
    operations.add_column("runs", Column("pid", Integer))
    operations.add_column("runs", Column("process_started_at", Float(53)))
    operations.add_column("runs", Column("heartbeat_at", UtcTime))


def _keep_checks(operations: Operations) -> None:
    operations.create_table(
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


def _keep_tags_and_artifacts(operations: Operations) -> None:
    operations.create_table(
        "tags",
        Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("value", Text, nullable=False),
    )
    operations.create_table(
        "artifacts",
        Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("digest", String, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("ix_artifacts_digest", "artifacts", ["digest"])


def _keep_trust(operations: Operations) -> None:
    operations.create_table(
        "trusted",
        Column("digest", String, primary_key=True),
        Column("decision_id", Integer, ForeignKey("decisions.id"), nullable=False),
    )


def _keep_what_was_written(operations: Operations) -> None:
    """Under which token, in answer to which request, and into which mirror."""
    operations.create_table(
        "fences",
        Column("name", String, primary_key=True),
        Column("token", BigInteger, nullable=False),
    )
    operations.create_table(
        "requests",
        Column("id", String, primary_key=True),
        Column("answer", Text, nullable=False),
        Column("at", UtcTime, nullable=False),
    )
    operations.create_index("ix_requests_at", "requests", ["at"])
    operations.create_table(
        "mirrored",
        Column("mirror", String, primary_key=True),
        Column("kind", String, primary_key=True),
        Column("key", String, primary_key=True),
        Column("value", JSON, nullable=False),
    )


def _index_references(operations: Operations) -> None:
    operations.create_index("ix_model_versions_bundle", "model_versions", ["bundle"])
    operations.create_index("ix_model_versions_run_id", "model_versions", ["run_id"])
    operations.create_index("ix_datasets_manifest", "datasets", ["manifest"])
    operations.create_index(
        "run_inputs_by_dataset", "run_inputs", ["dataset_name", "dataset_version"]
    )


def _split_params(operations: Operations) -> None:
    params = operations.create_table(
        "params",
        Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
        Column("name", String, primary_key=True),
        Column("value", JSON, nullable=False),
        Column("number", Float(53)),
        Column("text", String),
    )
    operations.create_index("params_by_number", "params", ["name", "number"])
    operations.create_index("params_by_text", "params", ["name", "text"])
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
