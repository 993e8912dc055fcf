"""Dataset versions, and what the rules said of their rows."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, Text

from raymlops.ledger.schema.base import metadata
from raymlops.ledger.types import UtcTime

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
