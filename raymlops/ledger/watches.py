"""What the detectors of concept drift remember, and the alarms they have raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert, select

from raymlops.ledger import schema
from raymlops.ledger.conflicts import insert_or_update
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import ConceptAlarm


class Watches:
    """One state a model, which says how far in the log of joins it has come.

    State, position and alarms land together: whoever is killed in between leaves what was there
    before, and the next one takes the same labels from the log again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def state(self, model: str) -> tuple[int, dict[str, Any]]:
        """(number of the last join that was taken, what is remembered of it and those before)."""
        columns = schema.watches.c
        query = select(columns.position, columns.state).where(columns.model == model)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return (0, {}) if row is None else (row.position, row.state)

    def advance(
        self,
        model: str,
        *,
        start: int,
        end: int,
        state: Mapping[str, Any],
        alarms: Sequence[ConceptAlarm],
    ) -> bool:
        """Goes on from join `start` to join `end`; False when another has gone on from there."""
        columns = schema.watches.c
        with self._database.write() as connection:
            held = connection.scalar(select(columns.position).where(columns.model == model))
            if (held or 0) != start:
                return False
            insert_or_update(
                connection,
                schema.watches,
                [{"model": model, "position": end, "state": dict(state)}],
            )
            rows = [{**asdict(alarm), "at": now()} for alarm in alarms]
            for row in rows:
                del row["id"]
            if rows:
                connection.execute(insert(schema.concept_alarms), rows)
        return True

    def alarms(
        self, model: str, *, version: str | None = None, after: int = 0
    ) -> list[ConceptAlarm]:
        """Those raised of a model, or one version of it, since alarm `after`, in order."""
        table = schema.concept_alarms
        query = select(table).where(table.c.model == model, table.c.id > after)
        if version is not None:
            query = query.where(table.c.version == version)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.id)).all()
        return [ConceptAlarm(**row._mapping) for row in rows]
