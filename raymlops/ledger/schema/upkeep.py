"""What the ledger remembers of its writers: lock tokens, answers, and what was mirrored."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, String, Table, Text

from raymlops.ledger.schema.base import metadata
from raymlops.ledger.types import UtcTime

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
