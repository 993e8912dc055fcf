"""Model versions and the aliases that move over them."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select

from raymlops.errors import ConflictError, NotFoundError
from raymlops.ledger import aliases, seals, tables, texts
from raymlops.ledger.database import Database, now
from raymlops.ledger.groups import groups
from raymlops.ledger.names import check_name
from raymlops.ledger.records import AliasMove, ModelVersion
from raymlops.ledger.schema import alias_moves, model_versions
from raymlops.ledger.version import FIRST, Bump, BumpFrom, Version


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
        bump: Bump | BumpFrom = "patch",
        version: Version | None = None,
        event_time: datetime | None = None,
    ) -> ModelVersion:
        """A new version: `version`, or the newest one bumped; the first is 1.0.0.

        A `bump` that is a function is asked in the transaction that writes the version, so its
        answer is about the version that this one follows, however many register at once.

        Raises:
            ConflictError: `version` exists already. Versions are never overwritten.
            ValueError: `model` could be neither deployed nor named, see `names`.
        """
        check_name(model, of="model")
        with self._database.write() as connection:
            newest = connection.execute(_newest_first(model).limit(1)).one_or_none()
            if version is None:
                version = FIRST if newest is None else _bumped(connection, newest, bump)
            elif connection.execute(_named(model, version)).one_or_none() is not None:
                assert newest is not None, "the version itself is there"
                raise ConflictError(
                    f"{model} {version} exists already; the newest is {_number(newest)}"
                )
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
            row = connection.execute(_named(model, version)).one()
            seals.seal(connection, seals.VERSION, row)
        return _version(row)

    def get(self, model: str, version: Version) -> ModelVersion:
        with self._database.read() as connection:
            row = connection.execute(_named(model, version)).one_or_none()
        if row is None:
            held = ", ".join(str(known.version) for known in self.list(model)) or "none"
            raise NotFoundError(f"no {model} {version}; the ledger holds {held}")
        return _version(row)

    def list(self, model: str) -> Sequence[ModelVersion]:
        """All versions, smallest first."""
        with self._database.read() as connection:
            rows = connection.execute(_newest_first(model)).all()
        return [_version(row) for row in reversed(rows)]

    def newest(self, model: str) -> ModelVersion:
        """Raises NotFoundError, naming the models there are."""
        if versions := self.list(model):
            return versions[-1]
        names = ", ".join(self.models())
        others = f"but {names}" if names else "nor any other; `raymlops doctor` tells its home"
        raise NotFoundError(f"the ledger holds no model '{model}', {others}")

    def of_runs(self, run_ids: Collection[str]) -> Sequence[ModelVersion]:
        """The versions these runs have made, by model, smallest first."""
        row = model_versions.c
        found: builtins.list[ModelVersion] = []
        with self._database.read() as connection:
            for ids in groups(run_ids):
                query = select(model_versions).where(row.run_id.in_(ids))
                found += [_version(each) for each in connection.execute(query)]
        return sorted(found, key=lambda each: (each.model, each.version))

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
            return self.get(model, self._parsed(model, name))
        return self.get(model, self.alias(model, name))

    def _parsed(self, model: str, name: str) -> Version:
        try:
            return Version.parse(name)
        except ValueError as error:
            self.newest(model)  # says so where there is no such model
            known = ", ".join(str(each.version) for each in self.list(model))
            raise NotFoundError(f"no {model}@{name}: {error}; the ledger holds {known}") from error

    def alias(self, model: str, alias: str) -> Version:
        """Raises NotFoundError, naming the aliases of the model, or the models there are."""
        with self._database.read() as connection:
            version = aliases.named(connection, model, alias)
        if version is None:
            self.newest(model)  # says so where there is no such model
            known = sorted({move.alias for move in self.moves(model)})
            raise NotFoundError(
                f"{model} has no alias '{alias}'; it has {', '.join(known) or 'none'}"
            )
        return version

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
        seen: Version | None = None,
        traffic: Mapping[str, Any] | None = None,
    ) -> AliasMove:
        """Points `alias` at `version`: the move, the decision behind it and, where the model has
        any, its `traffic` from then on, in one transaction.

        Raises:
            ConflictError: the alias does not name `seen` any more, on which that was decided.
        """
        self.get(model, version)
        with self._database.write() as connection:
            moved = aliases.move(
                connection,
                model,
                alias,
                version,
                who=who,
                why=why,
                evidence=evidence,
                event_time=event_time,
                seen=seen,
            )
            if traffic is not None:
                tables.replace(connection, model, traffic)
            return moved

    def moves(self, model: str, alias: str | None = None) -> Sequence[AliasMove]:
        """The history of one alias, or of all, oldest first."""
        query = select(alias_moves).where(alias_moves.c.model == model)
        if alias is not None:
            query = query.where(alias_moves.c.alias == alias)
        with self._database.read() as connection:
            return [
                aliases.from_row(row)
                for row in connection.execute(query.order_by(alias_moves.c.id))
            ]


def _newest_first(model: str) -> Select[Any]:
    row = model_versions.c
    query = select(model_versions).where(row.model == model)
    return query.order_by(row.major.desc(), row.minor.desc(), row.patch.desc())


def _named(model: str, version: Version) -> Select[Any]:
    row = model_versions.c
    return select(model_versions).where(
        row.model == model,
        row.major == version.major,
        row.minor == version.minor,
        row.patch == version.patch,
    )


def _number(row: Row[Any]) -> Version:
    return Version(row.major, row.minor, row.patch)


def _bumped(connection: Connection, newest: Row[Any], bump: Bump | BumpFrom) -> Version:
    part = bump(texts.read(connection, newest.signature_digest)) if callable(bump) else bump
    return _number(newest).bump(part)


def _version(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        model=row.model,
        version=_number(row),
        bundle=row.bundle,
        signature_digest=row.signature_digest,
        run_id=row.run_id,
        created_at=row.created_at,
        event_time=row.event_time,
    )
