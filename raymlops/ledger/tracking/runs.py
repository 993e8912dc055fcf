"""Runs: what was trained or searched, from which code, data and configuration, with what result.

Here they are written; what is asked of them is in `recorded`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from raymlops.config import redact
from raymlops.errors import ClusterError, LedgerError, NotFoundError
from raymlops.ledger import once, schema, texts
from raymlops.ledger.database import Database, now
from raymlops.ledger.house import composed
from raymlops.ledger.records import Artifact, Code, Dataset, Owner, Run, RunStatus
from raymlops.ledger.tracking import artifacts as artifact_rows
from raymlops.ledger.tracking import metrics
from raymlops.ledger.tracking import params as params_rows
from raymlops.ledger.tracking import tags as tag_rows
from raymlops.ledger.tracking.heartbeat import Heartbeat
from raymlops.ledger.tracking.logger import LogPolicy, MetricLogger
from raymlops.ledger.tracking.metrics import Logged
from raymlops.ledger.tracking.owner import this_process
from raymlops.ledger.tracking.recorded import RecordedRuns
from raymlops.ledger.types import clock

_PATIENCE_S = 5 * 60.0
_RETRY_S = 0.5

_logger = logging.getLogger(__name__)


class Runs(RecordedRuns):
    """The runs of a ledger; those that this process starts are its own while it lives."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._heartbeat = Heartbeat(self.speak_for)
        self._owed: dict[str, tuple[RunStatus, str | None]] = {}

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
        """Finishes `run` at the end of the block, or fails it with the exception that left it; by
        what is no Exception, as of Ctrl-C or SIGTERM, it was interrupted.

        What finished waits some minutes for a ledger that is away; bad news does not. What could
        not be written is, once the ledger is back, while this process lives.
        """
        try:
            yield run
        except BaseException as error:
            failed = isinstance(error, Exception)
            told = f"{type(error).__name__}: {error}".removesuffix(": ")
            try:
                (self.fail if failed else self.interrupt)(run.id, told)
            except (LedgerError, ClusterError) as unrecorded:  # the caller is told what ended it
                _logger.error("how run %s ended is not recorded: %s", run.id, unrecorded)
                self._owed[run.id] = ("failed" if failed else "interrupted", redact(told))
            raise
        self._finish_patiently(run.id)

    def _finish_patiently(self, run_id: str) -> None:
        deadline, told = time.monotonic() + _PATIENCE_S, False
        while True:
            try:
                return self.finish(run_id)
            except (LedgerError, ClusterError) as error:
                if (status := self._recorded_status(run_id)) == "finished":  # its answer was lost
                    return self._heartbeat.forget(run_id)
                if status is not None:
                    raise
                if time.monotonic() > deadline:
                    self._owed[run_id] = ("finished", None)
                    raise
                if not told:
                    _logger.warning("run %s has finished, and waits to say so: %s", run_id, error)
                told = True
                time.sleep(_RETRY_S)

    def _recorded_status(self, run_id: str) -> RunStatus | None:
        """How the run ended; None where it has not, or nobody can say."""
        try:
            run = self.get(run_id)
        except NotFoundError:
            raise
        except (LedgerError, ClusterError):
            return None
        return None if run.ended_at is None else run.status

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

    @composed
    def interrupt(self, run_id: str, by: str) -> None:
        self.end(run_id, "interrupted", redact(by))
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

    @composed
    def speak_for(self, run_ids: Collection[str]) -> Collection[str]:
        """Writes how runs ended of which that could not be written, or they would be running for as
        long as this process does; then as `beat`."""
        for run_id, (status, error) in [*self._owed.items()]:
            if self.get(run_id).ended_at is None:
                self.end(run_id, status, error)
            del self._owed[run_id]
        return self.beat(run_ids)

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

    def attach(self, run_id: str, name: str, digest: str, size_bytes: int) -> Artifact:
        """Records a blob of the store as what the run made.

        Raises:
            ConflictError: another one has that name.
        """
        self.get(run_id)
        with self._database.write() as connection:
            return artifact_rows.add(connection, run_id, name, digest=digest, size_bytes=size_bytes)

    @composed
    def close(self) -> None:
        """Ends the heartbeat; runs that are still open are lost when this process is."""
        self._heartbeat.stop()
