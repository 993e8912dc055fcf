"""Releases and the traffic tables they publish: how each stands, step by step, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from raymlops.errors import ConflictError, NotFoundError
from raymlops.ledger import aliases, decisions, tables
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import Release, ReleaseStatus
from raymlops.ledger.schema import releases
from raymlops.ledger.version import Version


class Releases:
    """Every step of a release is written with the decision behind it, in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        *,
        model: str,
        champion: Version,
        challenger: Version,
        strategy: Mapping[str, Any],
        state: Mapping[str, Any],
        outcome: str,
        who: str,
        why: str,
        event_time: datetime | None = None,
    ) -> Release:
        """Begins a release, whose version is the challenger from then on.

        Raises:
            ConflictError: another release of the model is running.
        """
        with self._database.write() as connection:
            running = connection.execute(
                select(releases).where(releases.c.model == model, releases.c.status == "running")
            ).first()
            if running is not None:
                raise ConflictError(
                    f"release {running.id} of {model} {running.challenger} is running; "
                    f"{challenger} must wait for its end"
                )
            key = connection.execute(
                insert(releases),
                {
                    "model": model,
                    "champion": str(champion),
                    "challenger": str(challenger),
                    "strategy": dict(strategy),
                    "status": "running",
                    "state": dict(state),
                    "started_at": now(),
                    "event_time": event_time,
                },
            ).inserted_primary_key
            assert key is not None, "an insert of one row has a key"
            release = _get(connection, key[0])
            _decided(connection, release, outcome, who, why, {}, event_time)
            aliases.move(
                connection,
                model,
                "challenger",
                challenger,
                who=who,
                why=why,
                evidence={"release": release.id},
                event_time=event_time,
            )
            return release

    def advance(
        self,
        release_id: int,
        state: Mapping[str, Any],
        status: ReleaseStatus,
        *,
        outcome: str,
        who: str,
        why: str,
        evidence: Mapping[str, Any] | None = None,
        event_time: datetime | None = None,
        traffic: Mapping[str, Any] | None = None,
        seen: Version | None = None,
        champion: Version | None = None,
    ) -> Release:
        """What it comes to, in one transaction: a promoted one makes its challenger the champion,
        another one `champion` where that is given, and `traffic` is the model's from then on, where
        it has any.

        Raises:
            ConflictError: it has ended, or another version than its two is the champion, or than
                `seen`, on which that was decided: by another hand, meanwhile.
        """
        ended_at = None if status == "running" else now()
        with self._database.write() as connection:
            changed = connection.execute(
                update(releases)
                .where(releases.c.id == release_id, releases.c.status == "running")
                .values(state=dict(state), status=status, ended_at=ended_at)
            )
            release = _get(connection, release_id)
            if not changed.rowcount:
                raise ConflictError(
                    f"release {release_id} of {release.model} {release.challenger} is "
                    f"{release.status.replace('_', ' ')} already"
                )
            if seen is not None:
                aliases.expect(connection, release.model, "champion", champion or seen, seen=seen)
            if champion is not None:
                aliases.move(
                    connection,
                    release.model,
                    "champion",
                    champion,
                    who=who,
                    why=why,
                    evidence={"release": release.id, **(evidence or {})},
                    event_time=event_time,
                )
            if status == "promoted":
                _crown(connection, release, who, why, evidence or {}, event_time)
            if traffic is not None:
                tables.replace(connection, release.model, traffic)
            _decided(connection, release, outcome, who, why, evidence or {}, event_time)
            return release

    def get(self, release_id: int) -> Release:
        """Raises NotFoundError."""
        with self._database.read() as connection:
            return _get(connection, release_id)

    def list(self, model: str) -> Sequence[Release]:
        query = select(releases).where(releases.c.model == model).order_by(releases.c.id)
        with self._database.read() as connection:
            return [_release(row) for row in connection.execute(query)]

    def running(self, model: str) -> Release | None:
        return next((row for row in self.list(model) if row.status == "running"), None)

    def publish(
        self, model: str, table: Mapping[str, Any], *, seen: Mapping[str, Any] | None = None
    ) -> int:
        """Stores the traffic table all replicas should follow; returns its generation.

        Raises:
            ConflictError: another one was published since `seen` was, the one that the caller
                found, or {} for none; the same table again is no other.
        """
        with self._database.write() as connection:
            if seen is not None:
                found = tables.published(connection, model)
                newest = {} if found is None else found[1]
                if newest not in (seen, table):
                    raise ConflictError(
                        f"the traffic of {model} was given to others, or taken away, by another "
                        "hand since that was decided; look again"
                    )
            return tables.publish(connection, model, table)

    def outnumber(self, model: str, generation: int) -> int | None:
        """Has the newest table of `model` followed by who follows `generation`, of a ledger that
        knew later ones; returns its number then, None where there is no table."""
        with self._database.write() as connection:
            return tables.outnumber(connection, model, generation)

    def withdraw(self, model: str) -> None:
        """Remembers that no replica of `model` is to answer any more, until a table is published
        again."""
        self.publish(model, {})

    def published(self, model: str) -> tuple[int, Mapping[str, Any]] | None:
        """The newest (generation, traffic table), None before the first and once withdrawn."""
        with self._database.read() as connection:
            return tables.published(connection, model)


def _get(connection: Connection, release_id: int) -> Release:
    row = connection.execute(select(releases).where(releases.c.id == release_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"the ledger holds no release {release_id}")
    return _release(row)


def _crown(
    connection: Connection,
    release: Release,
    who: str,
    why: str,
    evidence: Mapping[str, Any],
    event_time: datetime | None,
) -> None:
    if aliases.named(connection, release.model, "champion") == release.challenger:
        return  # a person was quicker
    aliases.move(
        connection,
        release.model,
        "champion",
        release.challenger,
        who=who,
        why=why,
        evidence={"release": release.id, **evidence},
        event_time=event_time,
        seen=release.champion,
    )


def _decided(
    connection: Connection,
    release: Release,
    outcome: str,
    who: str,
    why: str,
    evidence: Mapping[str, Any],
    event_time: datetime | None,
) -> None:
    decisions.append(
        connection,
        model=release.model,
        kind="release",
        outcome=f"{release.challenger} {outcome}",
        who=who,
        why=why,
        evidence={"release": release.id, **evidence},
        event_time=event_time,
    )


def _release(row: Row[Any]) -> Release:
    return Release(
        id=row.id,
        model=row.model,
        champion=Version.parse(row.champion),
        challenger=Version.parse(row.challenger),
        strategy=row.strategy,
        status=row.status,
        state=row.state,
        started_at=row.started_at,
        event_time=row.event_time,
        ended_at=row.ended_at,
    )
