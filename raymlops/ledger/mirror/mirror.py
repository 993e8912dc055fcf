"""Copies what is new in the ledger to MLflow: runs, metrics, files, versions, aliases.

    ledger ──► pending ──► runs, versions ──► target ──► MLflow
                  ▲                                │ done
                  └──────────── marks ◄────────────┘

A row is marked once it is copied. Killed in between, the next catch-up copies it again, and
everything the target does may be done twice: runs and versions are found by their tag, the rest
has the same name and value.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from raymlops.ledger.database import Database
from raymlops.ledger.ledger import Ledger
from raymlops.ledger.mirror import marks
from raymlops.ledger.mirror.files import Files
from raymlops.ledger.mirror.marks import Marks
from raymlops.ledger.mirror.pending import Pending
from raymlops.ledger.mirror.runs import MirroredRuns
from raymlops.ledger.mirror.target import Target, shown
from raymlops.ledger.mirror.versions import MirroredVersions
from raymlops.ledger.version import Version
from raymlops.storage import Store

_CHUNK_ROWS = 10_000
_CHUNK_FILES = 20


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What one catch-up copied; `num_statuses` counts runs that ended, or had to be reopened."""

    num_runs: int
    num_metrics: int
    num_statuses: int
    num_tags: int
    num_artifacts: int
    num_versions: int
    num_alias_moves: int


class Mirror:
    """The mirror of `ledger` in the MLflow store at `url`; one process at a time may run it.

    An experiment a model, a run a run; files up to `max_file_bytes` are copied, larger ones named
    by their digest. `artifacts` is the folder or URI for the files of new experiments, None for a
    tracking server, which has its own. Nothing is ever deleted in MLflow, and what somebody
    deletes there stays deleted. Infinities come out as the largest floats, and of metrics that
    agree in name, step, millisecond and value one: MLflow keeps them so.

    Raises:
        MirrorError: `url` names no kind of store MLflow has.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        url: str,
        *,
        artifacts: str | None = None,
        max_file_bytes: int = 64 << 20,
    ) -> None:
        self.name = shown(url)
        self._target = Target(url, artifacts)
        self._database = Database(ledger.url)
        self._pending = Pending(self._database, self.name)
        self._marks = Marks(self._database, self.name)
        files = Files(store, self._target, max_file_bytes)
        self._runs = MirroredRuns(self._database, self._marks, self._target, files)
        self._versions = MirroredVersions(
            self._database, self._marks, self._target, files, self._runs
        )

    def catch_up(self) -> Copied:
        """Copies everything the ledger holds and the mirror does not.

        Raises:
            MirrorError: MLflow cannot be reached or refuses a row; what was copied is marked.
            StorageError: the store of artifacts cannot be reached.
        """
        self._target.check()
        num_runs = self._copy_runs()
        # Statuses are read before the metrics: a run that has ended in MLflow is complete there.
        unsettled = self._runs.get(self._pending.unsettled_runs())
        return Copied(
            num_runs=num_runs,
            num_metrics=self._copy_metrics(),
            num_tags=self._copy_tags(),
            num_artifacts=self._copy_artifacts(),
            num_statuses=sum(self._runs.settle(run) for run in unsettled),
            num_versions=self._copy_versions(),
            num_alias_moves=self._copy_moves(),
        )

    def num_behind(self) -> int:
        """How many metrics wait to be copied."""
        return self._pending.num_metrics(self._last(marks.METRICS))

    def forget(self) -> None:
        """Drops all marks: the next catch-up goes through everything and copies what is missing,
        for an MLflow store that was lost or came back from an older copy."""
        self._marks.forget()

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _copy_runs(self) -> int:
        copied = 0
        while run_ids := self._pending.new_runs(_CHUNK_ROWS):
            for run_id in run_ids:
                self._runs.copy(run_id)
            copied += len(run_ids)
        return copied

    def _copy_metrics(self) -> int:
        last, copied = self._last(marks.METRICS), 0
        while rows := self._pending.metrics(last, _CHUNK_ROWS):
            by_run: dict[str, list[Row[Any]]] = defaultdict(list)
            for row in rows:
                by_run[row.run_id].append(row)
            for run_id, found in by_run.items():
                self._runs.log(run_id, found)
            last, copied = rows[-1].id, copied + len(rows)
            self._marks.keep(marks.METRICS, {"": {"last": last}})
        return copied

    def _copy_tags(self) -> int:
        copied = 0
        while rows := self._pending.tags(_CHUNK_ROWS):
            by_run: dict[str, dict[str, str]] = defaultdict(dict)
            for row in rows:
                by_run[row.run_id][row.name] = row.value
            for run_id, tags in by_run.items():
                self._runs.tag(run_id, tags)
            done = {f"{row.run_id}/{row.name}": {"value": row.value} for row in rows}
            self._marks.keep(marks.TAG, done)
            copied += len(rows)
        return copied

    def _copy_artifacts(self) -> int:
        copied = 0
        while rows := self._pending.artifacts(_CHUNK_FILES):
            for row in rows:
                self._runs.attach(row.run_id, row.name, row.digest, row.size_bytes)
            done = {f"{row.run_id}/{row.name}": {"value": row.digest} for row in rows}
            self._marks.keep(marks.ARTIFACT, done)
            copied += len(rows)
        return copied

    def _copy_versions(self) -> int:
        versions = self._pending.versions()
        for model, version in versions:
            self._versions.number(model, version)
        return len(versions)

    def _copy_moves(self) -> int:
        last, copied = self._last(marks.MOVES), 0
        while rows := self._pending.moves(last, _CHUNK_ROWS):
            for row in rows:
                self._versions.move(row.model, row.alias, Version.parse(row.version))
            last, copied = rows[-1].id, copied + len(rows)
            self._marks.keep(marks.MOVES, {"": {"last": last}})
        return copied

    def _last(self, kind: str) -> int:
        mark = self._marks.get(kind)
        return 0 if mark is None else int(mark["last"])
