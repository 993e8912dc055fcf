"""Where checkpoints lie, whatever is in them.

FOLDER/step-00000040/...            what the workers write
                     complete.json  written last: without it there is no checkpoint
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

from raymlops.storage.files import save as write_file
from raymlops.train.progress import Progress
from raymlops.train.spec import CheckpointPolicy

_COMPLETE = "complete.json"
_PREFIX = "step-"

_logger = logging.getLogger(__name__)


class CheckpointFolder:
    """The checkpoints of one training by their step, in a folder that every node reaches."""

    def __init__(self, folder: Path, policy: CheckpointPolicy) -> None:
        self.folder = folder
        self._policy = policy

    def is_due(self, step: int) -> bool:
        return self._policy.every_steps > 0 and step % self._policy.every_steps == 0

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first."""
        return sorted(
            int(path.parent.name.removeprefix(_PREFIX))
            for path in self.folder.glob(f"{_PREFIX}*/{_COMPLETE}")
        )

    def path(self, step: int) -> Path:
        return self.folder / f"{_PREFIX}{step:08d}"

    def begin(self, step: int) -> Path:
        """An empty folder for a checkpoint; an attempt that was killed may have left half of it."""
        path = self.path(step)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def remove_incomplete(self) -> None:
        """Removes the folders of checkpoints that were begun and not published."""
        for path in self.folder.glob(f"{_PREFIX}*"):
            if not (path / _COMPLETE).exists():
                shutil.rmtree(path, ignore_errors=True)

    def publish(self, progress: Progress) -> None:
        """Makes what was written a checkpoint, and removes those that are too old."""
        path = self.path(progress.step)
        text = json.dumps(progress.to_dict(), indent=2)
        write_file(path / _COMPLETE, [text.encode()], durable=True)
        _logger.info("checkpoint of step %d in %s", progress.step, path)
        for old in self.steps()[: -self._policy.keep]:
            doomed = self.path(old)
            os.unlink(doomed / _COMPLETE)  # first, so that nobody takes half of it for a whole
            shutil.rmtree(doomed, ignore_errors=True)

    def progress(self, step: int) -> Progress:
        return Progress.from_dict(json.loads((self.path(step) / _COMPLETE).read_text()))
