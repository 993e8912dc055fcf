"""Model versions and the aliases that move over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select

from raymlops.errors import ConflictError, NotFoundError
from raymlops.ledger import decisions, texts
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import AliasMove, ModelVersion
from raymlops.ledger.schema import alias_moves, model_versions
from raymlops.ledger.version import FIRST, Bump, Version


class Registry:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(
        self,
        model: str,
        *,
        bundle: str,
        signature: str,
        run_id: str,
        bump: Bump = "patch",
        version: Version | None = None,
        event_time: datetime | None = None,
    ) -> ModelVersion:
        """A new version: `version`, or the newest one bumped; the first is 1.0.0.

        Raises:
            ConflictError: `version` exists already. Versions are never overwritten.
        """
        with self._database.write() as connection:
            known = [_version(row).version for row in connection.execute(_of(model))]
            if version is None:
                version = max(known).bump(bump) if known else FIRST
            elif version in known:
                raise ConflictError(f"{model} {version} exists already; the newest is {max(known)}")
            connection.execute(
                insert(model_versions),
                {
                    "model": model,
                    "major": version.major,
                    "minor": version.minor,
                    "patch": version.patch,
                    "bundle": bundle,
                    "signature_digest": texts.keep(connection, signature),
                    "run_id": run_id,
                    "created_at": now(),
                    "event_time": event_time,
                },
            )
        return self.get(model, version)

    def get(self, model: str, version: Version) -> ModelVersion:
        known = self.list(model)
        for candidate in known:
            if candidate.version == version:
                return candidate
        held = ", ".join(str(candidate.version) for candidate in known) or "none"
        raise NotFoundError(f"no {model} {version}; the ledger holds {held}")

    def list(self, model: str) -> Sequence[ModelVersion]:
        """All versions, smallest first."""
        with self._database.read() as connection:
            rows = [_version(row) for row in connection.execute(_of(model))]
        return sorted(rows, key=lambda row: row.version)

    def models(self) -> Sequence[str]:
        query = select(model_versions.c.model).distinct().order_by(model_versions.c.model)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def resolve(self, reference: str) -> ModelVersion:
        """The version that `MODEL@ALIAS` or `MODEL@1.2.3` names.

        Raises:
            NotFoundError: there is no such model, alias or version.
        """
        model, _, name = reference.partition("@")
        if not name:
            raise NotFoundError(f"'{reference}' names no version; write MODEL@ALIAS or MODEL@1.2.3")
        if name[0].isdigit():
            return self.get(model, Version.parse(name))
        return self.get(model, self.alias(model, name))

    def alias(self, model: str, alias: str) -> Version:
        moves = self.moves(model, alias)
        if not moves:
            known = sorted({move.alias for move in self.moves(model)})
            raise NotFoundError(
                f"{model} has no alias '{alias}'; it has {', '.join(known) or 'none'}"
            )
        return moves[-1].version

    def move(
        self,
        model: str,
        alias: str,
        version: Version,
        *,
        who: str,
        why: str,
        evidence: Mapping[str, Any],
        event_time: datetime | None = None,
    ) -> AliasMove:
        """Points `alias` at `version`, the move and the decision behind it in one transaction."""
        self.get(model, version)
        with self._database.write() as connection:
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
            connection.execute(
                insert(alias_moves),
                {
                    "model": model,
                    "alias": alias,
                    "version": str(version),
                    "decision_id": decision.id,
                    "at": decision.at,
                    "event_time": event_time,
                },
            )
        return self.moves(model, alias)[-1]

    def moves(self, model: str, alias: str | None = None) -> Sequence[AliasMove]:
        """The history of one alias, or of all, oldest first."""
        query = select(alias_moves).where(alias_moves.c.model == model)
        if alias is not None:
            query = query.where(alias_moves.c.alias == alias)
        with self._database.read() as connection:
            return [_move(row) for row in connection.execute(query.order_by(alias_moves.c.id))]


def _of(model: str) -> Any:
    return select(model_versions).where(model_versions.c.model == model)


def _version(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        model=row.model,
        version=Version(row.major, row.minor, row.patch),
        bundle=row.bundle,
        signature_digest=row.signature_digest,
        run_id=row.run_id,
        created_at=row.created_at,
        event_time=row.event_time,
    )


def _move(row: Row[Any]) -> AliasMove:
    return AliasMove(
        id=row.id,
        model=row.model,
        alias=row.alias,
        version=Version.parse(row.version),
        decision_id=row.decision_id,
        at=row.at,
        event_time=row.event_time,
    )
