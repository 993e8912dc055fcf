"""Runs: what was trained or searched, from which code, data and configuration, with what result."""

from __future__ import annotations

import builtins
import contextlib
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, insert, select, update

from raymlops.config import redact
from raymlops.errors import LedgerError, NotFoundError
from raymlops.ledger import once, schema, texts
from raymlops.ledger.database import Database, now
from raymlops.ledger.house import composed
from raymlops.ledger.records import Artifact, Code, Dataset, Metric, Owner, Run, RunStatus
from raymlops.ledger.tracking import artifacts as artifact_rows
from raymlops.ledger.tracking import metrics, queries
from raymlops.ledger.tracking import params as params_rows
from raymlops.ledger.tracking import tags as tag_rows
from raymlops.ledger.tracking.comparison import Comparison, side_by_side
from raymlops.ledger.tracking.heartbeat import Heartbeat
from raymlops.ledger.tracking.logger import LogPolicy, MetricLogger
from raymlops.ledger.tracking.metrics import Logged
from raymlops.ledger.tracking.owner import this_process
from raymlops.ledger.types import clock


class Runs:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._heartbeat = Heartbeat(self.beat)

    @composed
    def start(
        self,
        *,
        kind: str,
        model: str,
        params: Mapping[str, Any],
        code: Code,
        config: str,
        environment: str,
        inputs: Mapping[str, Dataset],
        parent_id: str | None = None,
    ) -> Run:
        """A new running run; `config` and `environment` are texts, `inputs` datasets by role.

        It belongs to this process: should that die, the run is "lost".
        """
        run = self.add(
            kind=kind,
            model=model,
            params=params,
            code=code,
            config=config,
            environment=environment,
            inputs={role: (dataset.name, dataset.version) for role, dataset in inputs.items()},
            parent_id=parent_id,
            owner=this_process(),
        )
        self._heartbeat.watch(run.id)
        return run

    def add(
        self,
        *,
        kind: str,
        model: str,
        params: Mapping[str, Any],
        code: Code,
        config: str,
        environment: str,
        inputs: Mapping[str, tuple[str, int]],
        parent_id: str | None,
        owner: Owner,
    ) -> Run:
        """A new running run of the process `owner`; `inputs` are (name, version) by role."""
        if parent_id is not None:
            self.get(parent_id)
        run_id = f"{model}-{secrets.token_hex(5)}"
        with self._database.write() as connection:
            connection.execute(
                insert(schema.runs).values(heartbeat_at=clock()),
                {
                    "id": run_id,
                    "parent_id": parent_id,
                    "kind": kind,
                    "model": model,
                    "status": "running",
                    "commit": code.commit,
                    "dirty_digest": code.dirty_digest,
                    "config_digest": texts.keep(connection, config),
                    "environment_digest": texts.keep(connection, environment),
                    "started_at": now(),
                    "host": owner.host,
                    "pid": owner.pid,
                    "process_started_at": owner.process_started_at,
                },
            )
            if values := params_rows.rows(run_id, params):
                connection.execute(insert(schema.params), values)
            for role, (name, version) in inputs.items():
                connection.execute(
                    insert(schema.run_inputs),
                    {
                        "run_id": run_id,
                        "role": role,
                        "dataset_name": name,
                        "dataset_version": version,
                    },
                )
        return self.get(run_id)

    @composed
    @contextlib.contextmanager
    def recording(self, run: Run) -> Iterator[Run]:
        """Finishes `run` at the end of the block, or fails it with the exception that left it."""
        try:
            yield run
        except BaseException as error:
            self.fail(run.id, f"{type(error).__name__}: {error}".removesuffix(": "))
            raise
        self.finish(run.id)

    def log(self, run_id: str, values: Mapping[str, float], *, step: int = 0) -> None:
        """Adds values of a step; when this returns they are on disk and survive a power cut.

        For many steps a second see `logger`.

        Raises:
            NotFoundError: there is no such run.
            LedgerError: the database did not take them.
            TypeError: `step` is no integer.
        """
        if rows := metrics.rows(run_id, [Logged(values, step, now())]):
            try:
                self._database.append(schema.metrics, rows)
            except LedgerError:
                self.get(run_id)
                raise

    @composed
    def logger(self, run_id: str, policy: LogPolicy = LogPolicy()) -> MetricLogger:  # noqa: B008
        """Takes values in at once and writes them in groups.

        with ledger.runs.logger(run.id) as log:
            log({"loss": 0.4}, step=1)

        When the block ends, or `log.flush()` returns, everything logged before is durable.
        """
        self.get(run_id)

        def write(group_id: str, logged: Sequence[Logged]) -> None:
            self.log_many(run_id, logged, group_id=group_id)

        return MetricLogger(write, policy)

    def log_many(
        self, run_id: str, logged: Sequence[Logged], *, group_id: str | None = None
    ) -> None:
        """Adds the values of many steps, all or none; a `group_id` that was written adds none."""
        rows = metrics.rows(run_id, logged)
        with self._database.write() as connection:
            if group_id is not None:
                if once.answer_to(connection, group_id) is not None:
                    return
                once.remember(connection, group_id, "")
            if rows:
                self._database.append_in(connection, schema.metrics, rows)

    @composed
    def finish(self, run_id: str) -> None:
        self.end(run_id, "finished", None)
        self._heartbeat.forget(run_id)

    @composed
    def fail(self, run_id: str, error: str) -> None:
        self.end(run_id, "failed", redact(error))
        self._heartbeat.forget(run_id)

    def end(self, run_id: str, status: RunStatus, error: str | None) -> None:
        """Raises LedgerError when the run has ended already."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(schema.runs)
                .where(schema.runs.c.id == run_id, schema.runs.c.status == "running")
                .values(status=status, error=error, ended_at=now())
            )
        if changed.rowcount == 0:
            ended = self.get(run_id)
            raise LedgerError(f"run {run_id} is {ended.status} already, it cannot become {status}")

    def beat(self, run_ids: Collection[str]) -> Collection[str]:
        """Says that the owner of these runs lives; returns those that have not ended."""
        row = schema.runs.c
        mine = (row.id.in_(run_ids), row.status == "running")
        with self._database.write() as connection:
            connection.execute(update(schema.runs).where(*mine).values(heartbeat_at=clock()))
            return list(connection.scalars(select(row.id).where(*mine)))

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Sets tags of a run; one that it has already is replaced."""
        self.get(run_id)
        with self._database.write() as connection:
            tag_rows.replace(connection, run_id, tags)

    def tags(self, run_id: str) -> dict[str, str]:
        with self._database.read() as connection:
            return tag_rows.read(connection, run_id)

    def attach(self, run_id: str, name: str, digest: str, size_bytes: int) -> Artifact:
        """Records a blob of the store as what the run made.

        Raises:
            ConflictError: another one has that name.
        """
        self.get(run_id)
        with self._database.write() as connection:
            return artifact_rows.add(connection, run_id, name, digest=digest, size_bytes=size_bytes)

    def artifacts(self, run_id: str) -> Sequence[Artifact]:
        with self._database.read() as connection:
            return artifact_rows.read(connection, run_id)

    def all_artifacts(self) -> Sequence[tuple[str, Artifact]]:
        """The artifacts of all runs, each beside the id of its run."""
        with self._database.read() as connection:
            return artifact_rows.read_all(connection)

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
            names = ", ".join(self.metric_names()) or "none"
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

    def metric_names(self) -> Sequence[str]:
        """The names of everything that was ever logged."""
        return self._names(schema.metrics.c.name)

    def param_names(self) -> Sequence[str]:
        """The names of all parameters of runs."""
        return self._names(schema.params.c.name)

    def _names(self, column: ColumnElement[str]) -> Sequence[str]:
        with self._database.read() as connection:
            return list(connection.scalars(select(column).distinct().order_by(column)))

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

    @composed
    def close(self) -> None:
        """Ends the heartbeat; runs that are still open are lost when this process is."""
        self._heartbeat.stop()

    def _select(self, query: Select[Any]) -> builtins.list[Run]:
        with self._database.read() as connection:
            return queries.read(connection, query)
