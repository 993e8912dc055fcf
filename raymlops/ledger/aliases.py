"""Aliases as rows, in the caller's transaction: the newest move of one is what it names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from raymlops.errors import ConflictError
from raymlops.ledger import decisions
from raymlops.ledger.records import AliasMove
from raymlops.ledger.schema import alias_moves
from raymlops.ledger.version import Version


def named(connection: Connection, model: str, alias: str) -> Version | None:
    """The version that the alias names; None before its first move."""
    mine = (alias_moves.c.model == model, alias_moves.c.alias == alias)
    query = select(alias_moves.c.version).where(*mine).order_by(alias_moves.c.id.desc())
    version = connection.scalar(query.limit(1))
    return None if version is None else Version.parse(version)


def expect(
    connection: Connection, model: str, alias: str, version: Version, *, seen: Version
) -> None:
    """Raises ConflictError when the alias does not name `seen` any more, on which it was decided
    that it is to name `version`."""
    if (found := named(connection, model, alias)) != seen:
        raise ConflictError(
            f"{model} {alias} is {found} by now, moved by another hand, and was {seen} when it was "
            f"to become {version}; look again"
        )


def move(
    connection: Connection,
    model: str,
    alias: str,
    version: Version,
    *,
    who: str,
    why: str,
    evidence: Mapping[str, Any],
    event_time: datetime | None,
    seen: Version | None = None,
) -> AliasMove:
    """Points `alias` at `version`, with the decision behind it.

    Raises:
        ConflictError: the alias does not name `seen` any more, on which that was decided.
    """
    if seen is not None:
        expect(connection, model, alias, version, seen=seen)
    decision = decisions.append(
        connection,
        model=model,
        kind="alias",
        outcome=f"{alias} -> {version}",
        who=who,
        why=why,
        evidence=evidence,
        event_time=event_time,
    )
    values = {
        "model": model,
        "alias": alias,
        "version": str(version),
        "decision_id": decision.id,
        "at": decision.at,
        "event_time": event_time,
    }
    key = connection.execute(insert(alias_moves), values).inserted_primary_key
    assert key is not None, "an insert of one row has a key"
    return from_row(connection.execute(select(alias_moves).where(alias_moves.c.id == key[0])).one())


def from_row(row: Row[Any]) -> AliasMove:
    return AliasMove(
        id=row.id,
        model=row.model,
        alias=row.alias,
        version=Version.parse(row.version),
        decision_id=row.decision_id,
        at=row.at,
        event_time=row.event_time,
    )
