"""The ledger at a glance: numbers of rows, and the newest of those that are judged again and again.

Each is one query that reads no more than it returns, since somebody asks every few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import CTE, ColumnElement, Table, and_, func, select

from raymlops.ledger import schema
from raymlops.ledger.database import Database
from raymlops.ledger.decisions import from_row
from raymlops.ledger.records import Decision, Drift, Performance


class Overview:
    def __init__(self, database: Database) -> None:
        self._database = database

    def decisions(self) -> dict[tuple[str, str, str], int]:
        """How many there are by (model, kind, outcome)."""
        row = schema.decisions.c
        return self._count(schema.decisions, row.model, row.kind, row.outcome)

    def releases(self) -> dict[tuple[str, str], int]:
        """How many there are by (model, status)."""
        row = schema.releases.c
        return self._count(schema.releases, row.model, row.status)

    def aliases(self) -> dict[tuple[str, str], str]:
        """The version that each (model, alias) names."""
        row = schema.alias_moves.c
        newest = select(func.max(row.id)).group_by(row.model, row.alias)
        query = select(row.model, row.alias, row.version).where(row.id.in_(newest))
        with self._database.read() as connection:
            return {(model, alias): version for model, alias, version in connection.execute(query)}

    def labels(self) -> dict[tuple[str, str], int]:
        """How many met each (model, `joins.Fate`) so far."""
        row = schema.join_counts.c
        query = select(row.model, row.fate, row.num)
        with self._database.read() as connection:
            return {(model, fate): num for model, fate, num in connection.execute(query)}

    def newest_drift(self, *, before: datetime | None = None) -> Sequence[Drift]:
        """The rows of each model's newest window that was judged, or of those that ended before a
        time; none where that had too few rows to look for drift."""
        return [Drift(**values) for values in self._newest_windows(schema.drift, before)]

    def newest_performance(self, *, before: datetime | None = None) -> Sequence[Performance]:
        """The rows of each model's newest window that was judged, or of those that ended before a
        time."""
        found = self._newest_windows(schema.performance, before)
        return [Performance(**values) for values in found]

    def decisions_after(self, decision_id: int, *, limit: int) -> Sequence[Decision]:
        """The first `limit` decisions that came after one, oldest first."""
        row = schema.decisions.c
        query = select(schema.decisions).where(row.id > decision_id).order_by(row.id).limit(limit)
        with self._database.read() as connection:
            return [from_row(found) for found in connection.execute(query)]

    def last_decisions(self, *, limit: int, model: str | None = None) -> Sequence[Decision]:
        """The newest decisions, the newest first."""
        row = schema.decisions.c
        query = select(schema.decisions).order_by(row.id.desc()).limit(limit)
        if model is not None:
            query = query.where(row.model == model)
        with self._database.read() as connection:
            return [from_row(found) for found in connection.execute(query)]

    def _count(self, table: Table, *columns: Any) -> dict[Any, int]:
        query = select(*columns, func.count()).select_from(table).group_by(*columns)
        with self._database.read() as connection:
            return {tuple(keys): number for *keys, number in connection.execute(query)}

    def _newest_windows(self, table: Table, before: datetime | None) -> list[dict[str, Any]]:
        judged = schema.performance.c  # every window that was judged has rows there
        models = _each_once(judged.model)
        newest = select(func.max(judged.window_end)).where(judged.model == models.c.value)
        if before is not None:
            newest = newest.where(judged.window_end < before)
        same = and_(
            table.c.model == models.c.value,
            table.c.window_end == newest.correlate(models).scalar_subquery(),
        )
        query = select(table).join(models, same).order_by(table.c.id)
        with self._database.read() as connection:
            return [
                {key: value for key, value in row._mapping.items() if key != "id"}
                for row in connection.execute(query)
            ]


def _each_once(column: ColumnElement[str]) -> CTE:
    """The values of a column that an index begins with: it is looked up once for each, while
    DISTINCT and GROUP BY would go through all of it."""
    least = select(func.min(column).label("value")).cte(recursive=True)
    following = select(func.min(column)).where(column > least.c.value).correlate(least)
    return least.union_all(select(following.scalar_subquery()).where(least.c.value.is_not(None)))
