"""Dataset versions by name: numbered from 1, one version per content; and reports of checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Row, func, insert, select

from raymlops.errors import NotFoundError
from raymlops.ledger import seals
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import Check, Dataset
from raymlops.ledger.schema import checks, datasets


class Checked(Protocol):
    """One rule's outcome, as `data` finds it."""

    @property
    def column(self) -> str: ...
    @property
    def rule(self) -> str: ...
    @property
    def num_broken(self) -> int: ...
    @property
    def num_rows(self) -> int: ...
    @property
    def examples(self) -> tuple[str, ...]: ...


class Datasets:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        name: str,
        digest: str,
        manifest: str,
        fields: tuple[tuple[str, str], ...],
        num_rows: int,
        size_bytes: int,
        description: str,
        format: str = "parquet",
        source: Mapping[str, Any] | None = None,
        statistics: Sequence[Mapping[str, Any]] = (),
    ) -> Dataset:
        """The next version of `name`, or the version that holds this very content already."""
        with self._database.write() as connection:
            row = connection.execute(
                select(datasets).where(datasets.c.name == name, datasets.c.digest == digest)
            ).one_or_none()
            if row is not None:
                return _dataset(row)
            newest = connection.scalar(
                select(func.max(datasets.c.version)).where(datasets.c.name == name)
            )
            version = (newest or 0) + 1
            connection.execute(
                insert(datasets),
                {
                    "name": name,
                    "version": version,
                    "digest": digest,
                    "manifest": manifest,
                    "fields": [list(field) for field in fields],
                    "num_rows": num_rows,
                    "size_bytes": size_bytes,
                    "description": description,
                    "created_at": now(),
                    "format": format,
                    "source": source,
                    "statistics": list(statistics),
                },
            )
            row = connection.execute(
                select(datasets).where(datasets.c.name == name, datasets.c.version == version)
            ).one()
            seals.seal(connection, seals.DATASET, row)
            return _dataset(row)

    def get(self, name: str, version: int | None = None) -> Dataset:
        """Version `version` of `name`; without one, the newest."""
        query = select(datasets).where(datasets.c.name == name)
        if version is not None:
            query = query.where(datasets.c.version == version)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(datasets.c.version.desc()).limit(1)).first()
        if row is None:
            wanted = name if version is None else f"{name} version {version}"
            known = sorted({f"{d.name} {d.version}" for d in self.list()})
            raise NotFoundError(
                f"no dataset {wanted}; the ledger holds {', '.join(known) or 'none'}"
            )
        return _dataset(row)

    def find(self, name: str, digest: str) -> Dataset | None:
        """The version of `name` that holds this content."""
        query = select(datasets).where(datasets.c.name == name, datasets.c.digest == digest)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _dataset(row)

    def record_checks(self, name: str, digest: str, report: Iterable[Checked]) -> None:
        """Keeps one report of every rule that was checked on this content, passed or not."""
        at = now()
        rows = [
            {
                "dataset_name": name,
                "digest": digest,
                "column": each.column,
                "rule": each.rule,
                "num_broken": each.num_broken,
                "num_rows": each.num_rows,
                "examples": list(each.examples),
                "at": at,
            }
            for each in report
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(insert(checks), rows)

    def checks(self, name: str, digest: str) -> Sequence[Check]:
        """The newest report on the content whose digest begins with `digest`."""
        mine = (checks.c.dataset_name == name) & checks.c.digest.startswith(digest, autoescape=True)
        newest = select(func.max(checks.c.at)).where(mine).scalar_subquery()
        query = select(checks).where(mine, checks.c.at == newest).order_by(checks.c.id)
        with self._database.read() as connection:
            return [_check(row) for row in connection.execute(query)]

    def list(self) -> Sequence[Dataset]:
        query = select(datasets).order_by(datasets.c.name, datasets.c.version)
        with self._database.read() as connection:
            return [_dataset(row) for row in connection.execute(query)]


def _dataset(row: Row[Any]) -> Dataset:
    return Dataset(
        name=row.name,
        version=row.version,
        digest=row.digest,
        manifest=row.manifest,
        fields=tuple((name, dtype) for name, dtype in row.fields),
        num_rows=row.num_rows,
        size_bytes=row.size_bytes,
        description=row.description,
        created_at=row.created_at,
        format=row.format,
        source=row.source,
        statistics=tuple(row.statistics or ()),
    )


def _check(row: Row[Any]) -> Check:
    return Check(
        dataset_name=row.dataset_name,
        digest=row.digest,
        column=row.column,
        rule=row.rule,
        num_broken=row.num_broken,
        num_rows=row.num_rows,
        examples=tuple(row.examples),
        at=row.at,
    )
