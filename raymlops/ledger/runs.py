"""Runs: what was trained or searched, from which code, data and configuration, with what result."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update

from raymlops.errors import LedgerError, NotFoundError
from raymlops.ledger import params as params_rows
from raymlops.ledger import schema, texts
from raymlops.ledger.database import Database, now
from raymlops.ledger.records import Code, Dataset, Metric, Run


class Runs:
    def __init__(self, database: Database) -> None:
        self._database = database

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
        """A new running run; `config` and `environment` are texts, `inputs` datasets by role."""
        run_id = f"{model}-{secrets.token_hex(5)}"
        with self._database.write() as connection:
            connection.execute(
                insert(schema.runs),
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
                },
            )
            if values := params_rows.rows(run_id, params):
                connection.execute(insert(schema.params), values)
            for role, dataset in inputs.items():
                connection.execute(
                    insert(schema.run_inputs),
                    {
                        "run_id": run_id,
                        "role": role,
                        "dataset_name": dataset.name,
                        "dataset_version": dataset.version,
                    },
                )
        return self.get(run_id)

    @contextlib.contextmanager
    def recording(self, run: Run) -> Iterator[Run]:
        """Finishes `run` at the end of the block, or fails it with the exception that left it."""
        try:
            yield run
        except BaseException as error:
            self.fail(run.id, f"{type(error).__name__}: {error}")
            raise
        self.finish(run.id)

    def log(self, run_id: str, values: Mapping[str, float], *, step: int = 0) -> None:
        at = now()
        rows = [
            {"run_id": run_id, "name": name, "step": step, "value": float(value), "at": at}
            for name, value in values.items()
        ]
        if not rows:
            return
        with self._database.write() as connection:
            connection.execute(insert(schema.metrics), rows)

    def finish(self, run_id: str) -> None:
        self._end(run_id, "finished", None)

    def fail(self, run_id: str, error: str) -> None:
        self._end(run_id, "failed", error)

    def get(self, run_id: str) -> Run:
        with self._database.read() as connection:
            row = connection.execute(
                select(schema.runs).where(schema.runs.c.id == run_id)
            ).one_or_none()
        if row is None:
            raise NotFoundError(f"the ledger holds no run '{run_id}'; see `raymlops runs list`")
        return self._runs([row])[0]

    def list(self, *, model: str | None = None, parent_id: str | None = None) -> Sequence[Run]:
        """Runs, oldest first: all, of one model, or nested in one run."""
        query = select(schema.runs).order_by(schema.runs.c.started_at)
        if model is not None:
            query = query.where(schema.runs.c.model == model)
        if parent_id is not None:
            query = query.where(schema.runs.c.parent_id == parent_id)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return self._runs(rows)

    def metrics(self, run_id: str, name: str | None = None) -> Sequence[Metric]:
        """Every logged value, ordered by name, step and time of arrival."""
        columns = schema.metrics.c
        query = select(schema.metrics).where(columns.run_id == run_id)
        if name is not None:
            query = query.where(columns.name == name)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.name, columns.step, columns.id))
            return [
                Metric(name=row.name, step=row.step, value=row.value, at=row.at) for row in rows
            ]

    def last_metrics(self, run_id: str) -> dict[str, float]:
        """The latest value of each metric."""
        return {metric.name: metric.value for metric in self.metrics(run_id)}

    def inputs(self, run_id: str) -> dict[str, tuple[str, int]]:
        """(dataset name, version) by role."""
        query = select(schema.run_inputs).where(schema.run_inputs.c.run_id == run_id)
        with self._database.read() as connection:
            return {
                row.role: (row.dataset_name, row.dataset_version)
                for row in connection.execute(query)
            }

    def _runs(self, rows: Sequence[Row[Any]]) -> Sequence[Run]:
        with self._database.read() as connection:
            params = params_rows.read(connection, (row.id for row in rows))
        return [_run(row, params.get(row.id, {})) for row in rows]

    def _end(self, run_id: str, status: str, error: str | None) -> None:
        with self._database.write() as connection:
            changed = connection.execute(
                update(schema.runs)
                .where(schema.runs.c.id == run_id, schema.runs.c.status == "running")
                .values(status=status, error=error, ended_at=now())
            )
        if changed.rowcount == 0:
            ended = self.get(run_id)
            raise LedgerError(f"run {run_id} is {ended.status} already, it cannot become {status}")


def _run(row: Row[Any], params: Mapping[str, Any]) -> Run:
    return Run(
        id=row.id,
        parent_id=row.parent_id,
        kind=row.kind,
        model=row.model,
        status=row.status,
        params=params,
        code=Code(commit=row.commit, dirty_digest=row.dirty_digest),
        config_digest=row.config_digest,
        environment_digest=row.environment_digest,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error,
    )
