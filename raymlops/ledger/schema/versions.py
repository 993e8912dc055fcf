"""Model versions, decisions about them, and what serves them."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table, Text

from raymlops.ledger.schema.base import metadata
from raymlops.ledger.types import UtcTime

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
    Index("decisions_by_kind", "model", "kind", "id", "outcome"),
)

trusted = Table(
    "trusted",
    metadata,
    Column("digest", String, primary_key=True),
    Column("decision_id", ForeignKey("decisions.id"), nullable=False),
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
