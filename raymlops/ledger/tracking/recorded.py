"""What was recorded of runs, found again: one, the best, those that an expression describes."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from raymlops.errors import NotFoundError
from raymlops.ledger import schema
from raymlops.ledger.database import Database
from raymlops.ledger.house import composed
from raymlops.ledger.records import Artifact, Metric, Run, RunStatus
from raymlops.ledger.tracking import artifacts as artifact_rows
from raymlops.ledger.tracking import metrics, queries, search
from raymlops.ledger.tracking import tags as tag_rows
from raymlops.ledger.tracking.comparison import Comparison, side_by_side
from raymlops.ledger.tracking.unknown import UnknownField, likest_first

_NAMES = {
    "params": schema.params.c.name,
    "metrics": schema.metrics.c.name,
    "tags": schema.tags.c.name,
}


class RecordedRuns:
    """The runs of a ledger, for those who only read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, run_id: str) -> Run:
        found = self._select(queries.with_age().where(schema.runs.c.id == run_id))
        if not found:
            raise NotFoundError(f"the ledger holds no run '{run_id}'; see `raymlops runs list`")
        return found[0]

    def list(
        self,
        *,
        model: str | None = None,
        status: RunStatus | None = None,
        kind: str | None = None,
        parent_id: str | None = None,
        where: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Run]:
        """Runs, oldest first unless `order_by` a field, e.g. "metrics.log_loss desc".

        Args:
            where: an expression over parameters, last metrics, tags and columns, see `search`,
                e.g. "params.epochs >= 3 and metrics.log_loss < 0.5 and tags.team = 'a'".

        Raises:
            QueryError: `where` or `order_by` cannot be understood.
        """
        listed = queries.listed(
            model=model, kind=kind, parent_id=parent_id, where=where, order_by=order_by
        )
        if status is None:
            return self._select(listed.limit(limit))
        told_by_reading = status in ("running", "lost")
        stored = "running" if told_by_reading else status
        listed = listed.where(schema.runs.c.status == stored)
        found = self._select(listed if told_by_reading else listed.limit(limit))
        return [run for run in found if run.status == status][:limit]

    @composed
    def best(
        self,
        metric: str,
        *,
        maximize: bool | None = None,
        minimize: bool | None = None,
        model: str | None = None,
        kind: str | None = None,
        where: str | None = None,
    ) -> Run:
        """The finished run with the largest, or smallest, last value of `metric`.

        Exactly one of `maximize` and `minimize` is True: nothing is guessed from a metric's name.
        A run without the metric, or whose last value is NaN, never wins; of equals the run that
        started first does.

        Raises:
            ValueError: not exactly one direction is given.
            NotFoundError: no finished run has a value, or none of those that are asked for.
        """
        if bool(maximize) == bool(minimize):
            raise ValueError(
                f"best('{metric}') needs maximize=True or minimize=True, one of them, "
                f"not maximize={maximize}, minimize={minimize}"
            )
        found = self.extremes(
            metric, largest=bool(maximize), model=model, kind=kind, where=where, limit=1
        )
        if found:
            return found[0]
        if not self.extremes(metric, largest=bool(maximize), limit=1):
            names = likest_first(metric, self.metric_names())
            raise NotFoundError(f"no finished run has a value of '{metric}'; there are: {names}")
        given = {"model": model, "kind": kind, "where": where}
        asked = ", ".join(f"{name} {value!r}" for name, value in given.items() if value is not None)
        raise NotFoundError(
            f"finished runs have a value of '{metric}', but none of {asked}; parameters there are: "
            f"{', '.join(self.param_names()) or 'none'}"
        )

    def extremes(
        self,
        metric: str,
        *,
        largest: bool,
        model: str | None = None,
        kind: str | None = None,
        where: str | None = None,
        limit: int,
    ) -> Sequence[Run]:
        """The finished runs with the largest, or smallest, last values, the best first."""
        return self._select(
            queries.extremes(metric, largest=largest, model=model, kind=kind, where=where).limit(
                limit
            )
        )

    def unknown(
        self, *, where: str | None = None, order_by: str | None = None
    ) -> Sequence[UnknownField]:
        """The parameters, metrics and tags that a search or an order names and no run has.

        Raises:
            QueryError: as `list`.
        """
        named = [] if where is None else list(search.fields(search.parse(where)))
        if order_by is not None:
            named.append(search.parse_order(order_by).field)
        asked = dict.fromkeys(field for field in named if field.group)
        return [
            UnknownField(field, tuple(self._names(_NAMES[field.group])))
            for field in asked
            if not self._is_there(_NAMES[field.group], field.name)
        ]

    def metric_names(self) -> Sequence[str]:
        """The names of everything that was ever logged."""
        return self._names(_NAMES["metrics"])

    def param_names(self) -> Sequence[str]:
        """The names of all parameters of runs."""
        return self._names(_NAMES["params"])

    @composed
    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Parameters, last metrics, tags and inputs of runs, side by side."""
        found = [self.get(run_id) for run_id in run_ids]
        last = self.last_metrics_of(run_ids)
        return side_by_side(
            run_ids,
            params=[run.params for run in found],
            metrics=[last.get(run_id, {}) for run_id in run_ids],
            tags=[self.tags(run_id) for run_id in run_ids],
            inputs=[
                {role: f"{name} {version}" for role, (name, version) in self.inputs(each).items()}
                for each in run_ids
            ],
        )

    def metrics(self, run_id: str, name: str | None = None) -> Sequence[Metric]:
        """Every logged value, ordered by name, step and time of arrival."""
        with self._database.read() as connection:
            return metrics.read(connection, run_id, name)

    def newest_metrics(self, run_id: str) -> Sequence[Metric]:
        """Each metric at its largest step, the latest of those, ordered by name."""
        with self._database.read() as connection:
            return metrics.read_newest(connection, run_id)

    @composed
    def last_metrics(self, run_id: str) -> dict[str, float]:
        """The value of each metric at its largest step, the latest of those."""
        return self.last_metrics_of([run_id]).get(run_id, {})

    def last_metrics_of(self, run_ids: Collection[str]) -> dict[str, dict[str, float]]:
        """`last_metrics` by run, for those that have any."""
        with self._database.read() as connection:
            return dict(metrics.read_last(connection, run_ids))

    def tags(self, run_id: str) -> dict[str, str]:
        with self._database.read() as connection:
            return tag_rows.read(connection, run_id)

    def artifacts(self, run_id: str) -> Sequence[Artifact]:
        with self._database.read() as connection:
            return artifact_rows.read(connection, run_id)

    def all_artifacts(self) -> Sequence[tuple[str, Artifact]]:
        """The artifacts of all runs, each beside the id of its run."""
        with self._database.read() as connection:
            return artifact_rows.read_all(connection)

    def inputs(self, run_id: str) -> dict[str, tuple[str, int]]:
        """(dataset name, version) by role."""
        query = select(schema.run_inputs).where(schema.run_inputs.c.run_id == run_id)
        with self._database.read() as connection:
            return {
                row.role: (row.dataset_name, row.dataset_version)
                for row in connection.execute(query)
            }

    def using(self, name: str, version: int) -> Sequence[Run]:
        """Runs that came from a dataset version: those it was given to, what they are nested in,
        and what is nested in them."""
        return self._select(queries.came_from(name, version))

    def _names(self, column: ColumnElement[str]) -> Sequence[str]:
        with self._database.read() as connection:
            return list(connection.scalars(select(column).distinct().order_by(column)))

    def _is_there(self, column: ColumnElement[str], name: str) -> bool:
        """Whether a run has that name; told by one row, where all names take a look at every."""
        with self._database.read() as connection:
            return connection.scalar(select(column).where(column == name).limit(1)) is not None

    def _select(self, query: Select[Any]) -> builtins.list[Run]:
        with self._database.read() as connection:
            return queries.read(connection, query)
