"""Checkpoints that trainings have left: a run that ends keeps its newest ones, to be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from raymlops.ledger import Ledger, Run
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.checkpoints.resumption import folder_in, training_folder
from raymlops.train.spec import CheckpointPolicy


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """The checkpoints of the runs that trained, one after the other, in `folder`."""

    folder: str
    runs: tuple[Run, ...]
    size_bytes: int

    def remove(self) -> None:
        """Leaves everything else that lies there, such as the weights."""
        for path in _saved(self.folder).remains():
            shutil.rmtree(path)


def leftovers(
    ledger: Ledger, home: Path, *, before: datetime, model: str | None = None
) -> Iterator[Leftover]:
    """Those in that home whose newest checkpoint was written before that time, in folders where
    nobody trains.

    Folders that were recorded elsewhere are another home's, also where this one is its copy.
    """
    by_folder: dict[str, list[Run]] = {}
    for run in ledger.runs.list(kind="train", model=model):
        if (recorded := folder_in(ledger.text(run.config_digest))) is not None:
            own = training_folder(home, Path(recorded).name)
            by_folder.setdefault(own, []).append(run)
    for folder, runs in by_folder.items():
        if any(run.status == "running" for run in runs):
            continue
        remains = _saved(folder).remains()
        files = [each.stat() for path in remains for each in path.rglob("*") if each.is_file()]
        if files and max(each.st_mtime for each in files) < before.timestamp():
            size_bytes = sum(each.st_size for each in files)
            yield Leftover(folder=folder, runs=tuple(runs), size_bytes=size_bytes)


def _saved(folder: str) -> CheckpointFolder:
    return CheckpointFolder(Path(folder.removeprefix("file://")), CheckpointPolicy())
