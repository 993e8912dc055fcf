"""Checkpoints of Keras models: one archive of arrays, beside it the progress."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.train.checkpoints.digest import digest_of_file
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.keras.state import State
from raymlops.train.loop.progress import Progress
from raymlops.train.spec import CheckpointPolicy

_ARRAYS = "arrays.npz"


class Checkpoints:
    """The checkpoints of one training; the one worker that has `settle` writes them, and calls it
    before it publishes each. `told` gives every worker the step that this one gives."""

    def __init__(
        self,
        folder: Path,
        policy: CheckpointPolicy,
        *,
        settle: Callable[[], None] | None,
        told: Callable[[int | None], int | None],
    ) -> None:
        self._saved = CheckpointFolder(folder, policy)
        self._settle = settle
        self._told = told
        self._writer = ThreadPoolExecutor(1, "checkpoints") if policy.asynchronous else None
        self._writing: Future[None] | None = None

    def is_due(self, step: int) -> bool:
        return self._saved.is_due(step)

    def save(self, state: State, progress: Progress) -> None:
        """Saves a step; an asynchronous one is copied when this returns, and written later.

        Every worker calls it. One that is still being written is waited for first.
        """
        self.wait()
        arrays = state.arrays()
        if self._settle is None:
            return
        if self._writer is None:
            self._write(arrays, progress, self._settle)
        else:
            self._writing = self._writer.submit(self._write, arrays, progress, self._settle)

    def wait(self) -> None:
        """Returns once what is being written is there for all to see; raises what that raised."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def restore(self, state: State) -> Progress | None:
        """Fills `state` from the newest checkpoint that the worker who writes them finds; None if
        there is none.

        Every worker calls it, and none writes before all have. Another node may still hold an older
        list of the folder.

        Raises:
            TrainingError: it is of another model.
        """
        newest = None
        if self._settle is not None:
            self._saved.clear()
            newest = max(self._saved.steps(), default=None)
        step = self._told(newest)
        if step is None:
            return None
        with np.load(self._saved.path(step) / _ARRAYS, allow_pickle=False) as arrays:
            state.restore(dict(arrays))
        return self._saved.progress(step)

    def _write(
        self, arrays: dict[str, NDArray[Any]], progress: Progress, settle: Callable[[], None]
    ) -> None:
        with self._saved.discarding(progress.step):
            path = self._saved.begin(progress.step) / _ARRAYS
            with open(path, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            settle()
            self._saved.publish(progress, {_ARRAYS: digest_of_file(path)})
