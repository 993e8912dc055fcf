"""Runs in MLflow: made once, then kept up with."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from raymlops.ledger.database import Database
from raymlops.ledger.datasets import Datasets
from raymlops.ledger.mirror import marks, names
from raymlops.ledger.mirror.files import Files
from raymlops.ledger.mirror.marks import Marks
from raymlops.ledger.mirror.target import RunGoneError, Target
from raymlops.ledger.provenance import NO_COMMIT
from raymlops.ledger.records import Run
from raymlops.ledger.texts import Texts
from raymlops.ledger.tracking.recorded import RecordedRuns

_logger = logging.getLogger(__name__)


class MirroredRuns:
    """Counterparts of the ledger's runs. What somebody deletes in MLflow stays deleted."""

    def __init__(self, database: Database, marks: Marks, target: Target, files: Files) -> None:
        self._runs = RecordedRuns(database)
        self._datasets = Datasets(database)
        self._texts = Texts(database)
        self._marks = marks
        self._target = target
        self._files = files

    def on(self, run_id: str, act: Callable[[str], None]) -> bool:
        """Calls `act` with MLflow's id of the run, which is made unless it is there.

        False, and nothing is left to do, once the run was deleted in MLflow.
        """
        mark = self._marks.get(marks.RUN, run_id)
        if mark is None:
            return self._copy(self._runs.get(run_id), act)
        return not mark.get("gone") and self._attempt(run_id, mark["mlflow"], act)

    def copy(self, run_id: str) -> None:
        """Makes the run in MLflow unless it is there."""
        self.on(run_id, lambda _: None)

    def get(self, run_ids: Iterable[str]) -> Sequence[Run]:
        return [self._runs.get(run_id) for run_id in run_ids]

    def log(self, run_id: str, rows: Sequence[Row[Any]]) -> None:
        """Copies rows of the table `metrics`, all of one run."""
        from mlflow.entities import Metric

        safe = {name: names.safe_name(name) for name in {row.name for row in rows}}
        metrics = [
            Metric(safe[row.name], row.value, names.milliseconds(row.at), row.step) for row in rows
        ]

        def act(key: str) -> None:
            self._target.metrics(key, metrics)
            self._keep_names(key, safe)

        self.on(run_id, act)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        values = {
            names.safe_name(name): names.shortened(value, names.MAX_TAG)
            for name, value in tags.items()
        }

        def act(key: str) -> None:
            self._target.tags(key, values)
            self._keep_names(key, tags)

        self.on(run_id, act)

    def attach(self, run_id: str, name: str, digest: str, size_bytes: int) -> None:
        """Copies a file of the run, its digest as a tag beside it."""
        self.on(run_id, lambda key: self._files.blob(key, name, digest, size_bytes=size_bytes))
        self.tag(run_id, {f"raymlops.artifact.{name}": digest})

    def settle(self, run: Run) -> bool:
        """Gives the run in MLflow the status of `run`; says whether it had another."""
        mark = self._marks.get(marks.STATUS, run.id) or {"value": "running"}
        if mark["value"] == run.status:
            return False
        ended_ms = None if run.ended_at is None else names.milliseconds(run.ended_at)
        status = names.STATUSES[run.status]
        self.on(run.id, lambda key: self._target.status(key, status, ended_ms))
        if run.error is not None:
            self.tag(run.id, {"raymlops.error": run.error})
        self._marks.keep(marks.STATUS, {run.id: {"value": run.status}})
        return True

    def _copy(self, run: Run, act: Callable[[str], None]) -> bool:
        started_ms = names.milliseconds(run.started_at)
        tags = self._tags(run)
        try:
            key = self._target.run(run.id, model=run.model, started_ms=started_ms, tags=tags)
        except RunGoneError:
            _logger.warning("experiment %s was deleted in MLflow; it stays so", run.model)
            self._marks.keep(marks.RUN, {run.id: {"mlflow": None, "gone": True}})
            return False

        def fill(key: str) -> None:
            self._copy_params(run, key)
            self._copy_inputs(run, key)
            for name in ("config", "environment"):
                text = self._texts.get(getattr(run, f"{name}_digest"))
                self._files.text(key, f"raymlops/{name}.txt", text)

        if not self._attempt(run.id, key, fill):
            return False
        self._marks.keep(marks.RUN, {run.id: {"mlflow": key}})
        return self._attempt(run.id, key, act)

    def _attempt(self, run_id: str, key: str, act: Callable[[str], None]) -> bool:
        try:
            act(key)
        except RunGoneError:
            _logger.warning("run %s was deleted in MLflow (%s); it stays so", run_id, key)
            self._marks.keep(marks.RUN, {run_id: {"mlflow": key, "gone": True}})
            return False
        return True

    def _tags(self, run: Run) -> dict[str, str]:
        tags = {
            "raymlops.kind": run.kind,
            "raymlops.model": run.model,
            "raymlops.config_digest": run.config_digest,
            "raymlops.environment_digest": run.environment_digest,
        }
        if run.code.commit != NO_COMMIT:
            tags["mlflow.source.git.commit"] = run.code.commit
        if run.code.dirty_digest is not None:
            tags["raymlops.dirty_digest"] = run.code.dirty_digest
        if run.parent_id is not None:
            self.on(run.parent_id, lambda key: tags.update({"mlflow.parentRunId": key}))
        return tags

    def _copy_params(self, run: Run, key: str) -> None:
        """All of them stand in full in raymlops/params.json when one is too long for MLflow."""
        values = {name: names.value_text(value) for name, value in run.params.items()}
        shortened = {
            name: names.shortened(value, names.MAX_PARAM) for name, value in values.items()
        }
        self._target.params(key, {names.safe_name(name): text for name, text in shortened.items()})
        self._keep_names(key, values)
        if shortened != values:
            full = json.dumps(dict(run.params), indent=2, sort_keys=True)
            self._files.text(key, "raymlops/params.json", full)

    def _copy_inputs(self, run: Run, key: str) -> None:
        """MLflow keeps one context for a dataset: the roles of one are joined."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        roles: dict[tuple[str, int], list[str]] = defaultdict(list)
        for role, dataset in self._runs.inputs(run.id).items():
            roles[dataset].append(role)
        inputs = []
        for (name, version), held in sorted(roles.items()):
            found = self._datasets.get(name, version)
            source = {
                "dataset": name,
                "version": version,
                "digest": found.digest,
                "manifest": found.manifest,
                "store": self._files.where,
            }
            mirrored = Dataset(
                name=name,
                digest=found.digest[: names.MAX_DATASET_DIGEST],
                source_type="raymlops",
                source=json.dumps(source, sort_keys=True),
                schema=json.dumps({"fields": dict(found.fields)}),
                profile=json.dumps({"num_rows": found.num_rows}),
            )
            context = InputTag("mlflow.data.context", ", ".join(sorted(held)))
            inputs.append(DatasetInput(mirrored, [context]))
        if inputs:
            self._target.inputs(key, inputs)

    def _keep_names(self, key: str, given: Iterable[str]) -> None:
        """Names that MLflow refuses stand in a tag each: raymlops.name.NAME-THERE = NAME."""
        renamed = {
            names.safe_name(f"raymlops.name.{there}"): names.shortened(name, names.MAX_TAG)
            for name in given
            if (there := names.safe_name(name)) != name
        }
        self._target.tags(key, renamed)
