"""Decisions: every act of the system or of a person, with its reason and its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from raymlops.errors import NotFoundError
from raymlops.ledger import audit
from raymlops.ledger.conflicts import insert_or_update
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import Decision
from raymlops.ledger.schema import considered, decisions


def append(
    connection: Connection,
    *,
    model: str,
    kind: str,
    outcome: str,
    who: str,
    why: str,
    evidence: Mapping[str, Any],
    event_time: datetime | None,
) -> Decision:
    """Adds a decision inside the caller's transaction, so that act and reason land together.

    That transaction holds the database's write lock, so the chain has one newest decision.
    """
    content = {
        "model": model,
        "kind": kind,
        "outcome": outcome,
        "who": who,
        "why": why,
        "evidence": audit.plain(evidence),
        "at": now(),
        "event_time": event_time,
    }
    newest = select(decisions.c.digest).order_by(decisions.c.id.desc()).limit(1)
    previous = connection.scalar(newest) or audit.BEGINNING
    row: dict[str, Any] = {
        **content,
        "previous": previous,
        "digest": audit.digest(previous, content),
    }
    key = connection.execute(insert(decisions), row).inserted_primary_key
    assert key is not None, "an insert of one row has a key"
    return Decision(id=key[0], **row)


class Decisions:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        model: str,
        kind: str,
        outcome: str,
        who: str,
        why: str,
        evidence: Mapping[str, Any],
        event_time: datetime | None = None,
        window_end: datetime | None = None,
    ) -> Decision:
        """Adds a decision; one about the window that ends at `window_end` considers it as well."""
        with self._database.write() as connection:
            if window_end is not None:
                _consider(connection, model, window_end)
            return append(
                connection,
                model=model,
                kind=kind,
                outcome=outcome,
                who=who,
                why=why,
                evidence=evidence,
                event_time=event_time,
            )

    def consider(self, model: str, window_end: datetime) -> None:
        """Remembers that the windows of `model` up to that end call for nothing any more."""
        with self._database.write() as connection:
            _consider(connection, model, window_end)

    def considered(self, model: str) -> datetime | None:
        """The end of the last window that was considered; None before the first."""
        query = select(considered.c.window_end).where(considered.c.model == model)
        with self._database.read() as connection:
            return connection.scalar(query)

    def get(self, decision_id: int) -> Decision:
        with self._database.read() as connection:
            row = connection.execute(
                select(decisions).where(decisions.c.id == decision_id)
            ).one_or_none()
        if row is None:
            raise NotFoundError(f"the ledger holds no decision {decision_id}")
        return from_row(row)

    def list(
        self, *, model: str | None = None, kind: str | None = None, since: int = 0
    ) -> Sequence[Decision]:
        """All decisions, or those about a model, of a kind or from number `since` on, oldest
        first."""
        query = select(decisions).where(decisions.c.id >= since)
        if model is not None:
            query = query.where(decisions.c.model == model)
        if kind is not None:
            query = query.where(decisions.c.kind == kind)
        with self._database.read() as connection:
            return [from_row(row) for row in connection.execute(query.order_by(decisions.c.id))]


def _consider(connection: Connection, model: str, window_end: datetime) -> None:
    insert_or_update(connection, considered, [{"model": model, "window_end": window_end}])


def from_row(row: Row[Any]) -> Decision:
    return Decision(
        id=row.id,
        model=row.model,
        kind=row.kind,
        outcome=row.outcome,
        who=row.who,
        why=row.why,
        evidence=row.evidence,
        at=row.at,
        event_time=row.event_time,
        previous=row.previous,
        digest=row.digest,
    )
