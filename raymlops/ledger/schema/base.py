"""What every ledger has: the number of its schema, and texts that many rows share."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table, Text

SCHEMA_VERSION = 6

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
