"""What a mirror has still to copy: the ledger's rows less the mirror's marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    String,
    and_,
    cast,
    func,
    or_,
    select,
)

from raymlops.ledger import schema
from raymlops.ledger.database import Database
from raymlops.ledger.mirror import marks
from raymlops.ledger.schema import alias_moves, artifacts, metrics, mirrored, model_versions, runs
from raymlops.ledger.version import Version


class Pending:
    """Oldest first, `limit` rows at a time: asked again when those are marked."""

    def __init__(self, database: Database, mirror: str) -> None:
        self._database = database
        self._mirror = mirror

    def new_runs(self, limit: int) -> Sequence[str]:
        """Ids of runs that have no counterpart yet."""
        run, matches = self._mark(marks.RUN, runs.c.id)
        query = (
            select(runs.c.id)
            .outerjoin(run, matches)
            .where(run.c.key.is_(None))
            .order_by(runs.c.started_at, runs.c.id)
        )
        return [row.id for row in self._rows(query.limit(limit))]

    def unsettled_runs(self) -> Sequence[str]:
        """Ids of copied runs that have not ended, or whose end is not copied."""
        run, has_run = self._mark(marks.RUN, runs.c.id)
        status, has_status = self._mark(marks.STATUS, runs.c.id)
        query = (
            select(runs.c.id)
            .join(run, has_run)
            .outerjoin(status, has_status)
            .where(
                or_(
                    runs.c.status == "running",
                    status.c.key.is_(None),
                    status.c.value["value"].as_string() != runs.c.status,
                )
            )
            .order_by(runs.c.started_at)
        )
        return [row.id for row in self._rows(query)]

    def metrics(self, after: int, limit: int) -> Sequence[Row[Any]]:
        """Metrics in the order in which they were written, across runs.

        Writers queue, so a metric with a smaller id than one that is visible is visible too.
        """
        return self._rows(
            select(metrics).where(metrics.c.id > after).order_by(metrics.c.id).limit(limit)
        )

    def tags(self, limit: int) -> Sequence[Row[Any]]:
        return self._changed(schema.tags, marks.TAG, schema.tags.c.value, limit)

    def artifacts(self, limit: int) -> Sequence[Row[Any]]:
        return self._changed(artifacts, marks.ARTIFACT, artifacts.c.digest, limit)

    def versions(self) -> Sequence[tuple[str, Version]]:
        """(model, version) of every version without a counterpart."""
        columns = model_versions.c
        key = columns.model + "/"
        for number, end in ((columns.major, "."), (columns.minor, "."), (columns.patch, "")):
            key = key + cast(number, String) + end
        version, matches = self._mark(marks.VERSION, key)
        query = (
            select(model_versions)
            .outerjoin(version, matches)
            .where(version.c.key.is_(None))
            .order_by(columns.created_at, columns.major, columns.minor, columns.patch)
        )
        return [(row.model, Version(row.major, row.minor, row.patch)) for row in self._rows(query)]

    def moves(self, after: int, limit: int) -> Sequence[Row[Any]]:
        return self._rows(
            select(alias_moves)
            .where(alias_moves.c.id > after)
            .order_by(alias_moves.c.id)
            .limit(limit)
        )

    def num_metrics(self, after: int) -> int:
        rows = self._rows(select(func.count()).where(metrics.c.id > after))
        return int(rows[0][0])

    def _changed(
        self, table: FromClause, kind: str, value: ColumnElement[Any], limit: int
    ) -> Sequence[Row[Any]]:
        """Rows of copied runs whose `value` is not the one that was copied."""
        run, has_run = self._mark(marks.RUN, table.c.run_id)
        mark, has_mark = self._mark(kind, table.c.run_id + "/" + table.c.name)
        return self._rows(
            select(table)
            .join(run, has_run)
            .outerjoin(mark, has_mark)
            .where(or_(mark.c.key.is_(None), mark.c.value["value"].as_string() != value))
            .order_by(table.c.run_id, table.c.name)
            .limit(limit)
        )

    def _mark(self, kind: str, key: ColumnElement[Any]) -> tuple[FromClause, ColumnElement[bool]]:
        """The marks of one kind, and what joins them to the rows they mark."""
        mark = mirrored.alias()
        return mark, and_(mark.c.mirror == self._mirror, mark.c.kind == kind, mark.c.key == key)

    def _rows(self, query: Any) -> Sequence[Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(query).all()
