"""Model versions and aliases in MLflow, which numbers versions 1, 2, ... as they come."""

from __future__ import annotations

import logging

from raymlops.ledger.database import Database
from raymlops.ledger.mirror import marks, names
from raymlops.ledger.mirror.files import Files
from raymlops.ledger.mirror.marks import Marks
from raymlops.ledger.mirror.runs import MirroredRuns
from raymlops.ledger.mirror.target import Target
from raymlops.ledger.records import ModelVersion
from raymlops.ledger.registry import Registry
from raymlops.ledger.version import Version

_logger = logging.getLogger(__name__)


class MirroredVersions:
    """Version 1.2.3 is found in MLflow by the alias 1-2-3 and the tag raymlops.version.

    Its files lie in the folder bundles/1.2.3 of its run.
    """

    def __init__(
        self, database: Database, marks: Marks, target: Target, files: Files, runs: MirroredRuns
    ) -> None:
        self._registry = Registry(database)
        self._marks = marks
        self._target = target
        self._files = files
        self._runs = runs

    def number(self, model: str, version: Version) -> str | None:
        """MLflow's number of the version, registered there unless it is.

        None when its run was deleted in MLflow before the version could be registered.
        """
        place = f"{model}/{version}"
        mark = self._marks.get(marks.VERSION, place)
        if mark is None:
            mark = {"mlflow": self._copy(self._registry.get(model, version))}
            self._marks.keep(marks.VERSION, {place: mark})
        number: str | None = mark["mlflow"]
        return number

    def move(self, model: str, alias: str, version: Version) -> None:
        number = self.number(model, version)
        if number is not None:
            self._target.alias(model, names.safe_alias(alias), number)

    def _copy(self, row: ModelVersion) -> str | None:
        version = str(row.version)
        tags = {"raymlops.bundle": row.bundle, "raymlops.signature": row.signature_digest}
        if row.event_time is not None:
            tags["raymlops.event_time"] = row.event_time.isoformat()
        numbers: list[str] = []

        def register(key: str) -> None:
            self._files.tree(key, f"bundles/{version}", row.bundle)
            numbers.append(self._target.version(row.model, version, key=key, tags=tags))

        if not self._runs.on(row.run_id, register):
            _logger.warning("%s is not registered in MLflow: its run was deleted there", row)
            return None
        self._target.alias(row.model, names.version_alias(row.version), numbers[0])
        return numbers[0]
