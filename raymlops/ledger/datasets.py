"""Dataset versions by name: numbered from 1, one version per content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, insert, select

from raymlops.errors import NotFoundError
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import Dataset
from raymlops.ledger.schema import datasets


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
                },
            )
        return self.get(name, version)

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
    )
