"""What was seen of models in service: predictions, labels, counts, and windows judged by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    Table,
    and_,
    delete,
    func,
    insert,
    select,
)

from raymlops.errors import NotFoundError
from raymlops.ledger import forgetting, joins, labelled, schema, taps
from raymlops.ledger.database import Database
from raymlops.ledger.forgetting import Forgotten
from raymlops.ledger.joins import JoinPolicy
from raymlops.ledger.records import (
    Drift,
    Labels,
    Outcome,
    Outcomes,
    Pane,
    Performance,
    Prediction,
    SlicePerformance,
)
from raymlops.ledger.taps import TapMessage, pane_of

_DEFAULT_POLICY = JoinPolicy()


class Observations:
    """Adding is idempotent: a message that is repeated after a crash changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_tap(
        self, replica: str, sequence: int, panes: Sequence[Pane], predictions: Sequence[Prediction]
    ) -> bool:
        """Merges message number `sequence` of `replica`; False when it was merged before."""
        return self.add_taps([TapMessage(replica, sequence, panes, predictions)]) == 1

    def add_taps(self, messages: Sequence[TapMessage], policy: JoinPolicy = _DEFAULT_POLICY) -> int:
        """Merges messages of any replicas in one transaction; returns how many were new."""
        with self._database.write() as connection:
            return taps.merge(connection, messages, policy)

    def add_labels(self, labels: Sequence[Labels], policy: JoinPolicy = _DEFAULT_POLICY) -> int:
        """Joins labels with their predictions, or lets them wait for them.

        Returns how many requests have labels now that had none; `join_labels` tells of the rest.
        """
        fates = self.join_labels(labels, policy)
        return fates.get("joined", 0) + fates.get("waiting", 0)

    def join_labels(
        self, labels: Sequence[Labels], policy: JoinPolicy = _DEFAULT_POLICY
    ) -> dict[str, int]:
        """As `add_labels`; returns how many labels met each `joins.Fate` by this."""
        found: Counter[str] = Counter()
        with self._database.write() as connection:
            for (_, fate), num in joins.add_labels(connection, labels, policy).items():
                found[fate] += num
        return {fate: num for fate, num in found.items() if num}

    def join_counts(self, model: str) -> dict[str, int]:
        """How many labels met each `joins.Fate` so far."""
        columns = schema.join_counts.c
        query = select(columns.fate, columns.num).where(columns.model == model)
        with self._database.read() as connection:
            return {row.fate: row.num for row in connection.execute(query)}

    def joined(self, model: str, *, after: int, limit: int) -> list[tuple[int, Outcome]]:
        """(number, outcome) of what was joined since number `after`, in that order."""
        columns = schema.joins.c
        query = (
            labelled.query(columns.id.label("number"))
            .join(
                schema.joins,
                and_(
                    columns.request_id == schema.predictions.c.request_id,
                    columns.model == schema.predictions.c.model,
                ),
            )
            .where(columns.model == model, columns.id > after)
            .order_by(columns.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(row.number, labelled.outcome(row)) for row in connection.execute(query)]

    def prediction(self, request_id: str, model: str | None = None) -> Prediction:
        """What `model` answered, which need not be told where one model alone was asked.

        Raises:
            NotFoundError: no model answered it, or several did and none is told.
        """
        columns = schema.predictions.c
        query = select(schema.predictions).where(columns.request_id == request_id)
        if model is not None:
            query = query.where(columns.model == model)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.model)).all()
            forgotten = "" if rows else forgetting.said_of(connection, model)
        if not rows:
            of_model = "" if model is None else f" of {model}"
            raise NotFoundError(
                f"the ledger holds no prediction{of_model} for request '{request_id}'{forgotten}"
            )
        if len(rows) > 1:
            raise NotFoundError(
                f"request '{request_id}' was answered by {', '.join(row.model for row in rows)}; "
                "name one of them by --model"
            )
        return Prediction(**rows[0]._mapping)

    def outcomes(
        self, model: str, *, start: datetime, end: datetime, version: str | None = None
    ) -> list[Outcomes]:
        """Labelled predictions whose event time lies in [start, end), side by side where version
        and arm are the same, in that order."""
        predictions = schema.predictions.c
        query = (
            labelled.query()
            .where(predictions.model == model)
            .where(predictions.event_time >= start, predictions.event_time < end)
            .order_by(predictions.event_time, predictions.request_id)
        )
        if version is not None:
            query = query.where(predictions.version == version)
        with self._database.read() as connection:
            return labelled.side_by_side(connection.execute(query))

    def count_predictions(self, model: str) -> int:
        query = select(func.count()).where(schema.predictions.c.model == model)
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def count_old(self, model: str, *, before: datetime) -> int:
        """How many predictions `forget` would remove."""
        with self._database.read() as connection:
            return forgetting.count(connection, model, before)

    def forget(self, model: str, *, before: datetime, since: datetime | None = None) -> Forgotten:
        """Removes some predictions whose event and answer lie before that time, the oldest first,
        with their labels; but those whose labels the detectors of concept drift have not seen.

        Writers wait for one transaction alone: call it again, `since` what it told, until it tells
        none.
        """
        with self._database.write() as connection:
            return forgetting.forget(connection, model, before=before, since=since)

    def panes(self, model: str, *, start: date, end: date) -> list[Pane]:
        """The counts of each arm and day in [start, end), in that order."""
        columns = schema.panes.c
        query = (
            select(schema.panes)
            .where(columns.model == model, columns.day >= start, columns.day < end)
            .order_by(columns.day, columns.version, columns.arm)
        )
        with self._database.read() as connection:
            return [pane_of(row) for row in connection.execute(query)]

    def days(self, model: str) -> list[date]:
        """The days with traffic, in order."""
        columns = schema.panes.c
        query = select(columns.day).where(columns.model == model)
        with self._database.read() as connection:
            return list(connection.scalars(query.distinct().order_by(columns.day)))

    def count_rows(self, model: str, *, start: date, end: date) -> dict[str, int]:
        """How many rows each version answered on the days [start, end)."""
        columns = schema.panes.c
        query = (
            select(columns.version, func.sum(columns.num_rows))
            .where(columns.model == model, columns.day >= start, columns.day < end)
            .group_by(columns.version)
        )
        with self._database.read() as connection:
            return {version: int(num_rows) for version, num_rows in connection.execute(query)}

    def count_labelled(self, model: str, *, start: datetime, end: datetime) -> int:
        """How many rows of event time [start, end) have labels, as `outcomes` has them."""
        columns = schema.predictions.c
        found = (
            labelled.query()
            .where(columns.model == model)
            .where(columns.event_time >= start, columns.event_time < end)
            .with_only_columns(func.sum(columns.num_rows))
        )
        with self._database.read() as connection:
            return int(connection.scalar(found) or 0)

    def add_performance(self, rows: Sequence[Performance]) -> None:
        self._replace(schema.performance, [asdict(row) for row in rows])

    def performance(
        self, model: str, *, after: datetime | None = None, until: datetime | None = None
    ) -> list[Performance]:
        """Of all windows, or those that ended in (after, until]."""
        found = self._windows(schema.performance, model, after, until)
        return [Performance(**values) for values in found]

    def count_judged(self, model: str) -> int:
        """How many windows were judged, by their ends."""
        columns = schema.performance.c
        query = select(func.count(columns.window_end.distinct())).where(columns.model == model)
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def last_judged(self, model: str, *, before: datetime | None = None) -> datetime | None:
        """The end of the last window that was judged, or of the last that ended before a time; None
        where there is none."""
        columns = schema.performance.c
        query = select(func.max(columns.window_end)).where(columns.model == model)
        if before is not None:
            query = query.where(columns.window_end < before)
        with self._database.read() as connection:
            last: datetime | None = connection.scalar(query)
        return last

    def add_slices(self, rows: Sequence[SlicePerformance]) -> None:
        self._replace(schema.slice_performance, [asdict(row) for row in rows])

    def slices(
        self, model: str, *, after: datetime | None = None, until: datetime | None = None
    ) -> list[SlicePerformance]:
        """Of all windows, or those that ended in (after, until]."""
        found = self._windows(schema.slice_performance, model, after, until)
        return [SlicePerformance(**values) for values in found]

    def add_drift(self, rows: Sequence[Drift]) -> None:
        self._replace(schema.drift, [asdict(row) for row in rows])

    def drift(
        self, model: str, *, after: datetime | None = None, until: datetime | None = None
    ) -> list[Drift]:
        """Of all windows, or those that ended in (after, until]."""
        return [Drift(**values) for values in self._windows(schema.drift, model, after, until)]

    def looks(self, model: str, version: str) -> list[datetime]:
        """The ends of the windows in which drift of `version` was looked for, in order."""
        columns = schema.drift.c
        query = (
            select(columns.window_end)
            .where(columns.model == model, columns.version == version)
            .distinct()
            .order_by(columns.window_end)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def _replace(self, table: Table, rows: list[dict[str, Any]]) -> None:
        keys = [key for key in _WINDOW_KEYS if key in table.c]
        with self._database.write() as connection:
            for row in rows:
                same = [table.c[key] == row[key] for key in keys]
                connection.execute(delete(table).where(*same))
                connection.execute(insert(table), row)

    def _windows(
        self,
        table: Table,
        model: str,
        after: datetime | None = None,
        until: datetime | None = None,
    ) -> list[dict[str, Any]]:
        query = select(table).where(table.c.model == model)
        if after is not None:
            query = query.where(table.c.window_end > after)
        if until is not None:
            query = query.where(table.c.window_end <= until)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.window_start, table.c.id))
            return [
                {key: value for key, value in row._mapping.items() if key != "id"} for row in rows
            ]


_WINDOW_KEYS = (
    "model", "version", "arm", "window_start", "window_end", "metric", "feature", "part"
)  # fmt: skip
