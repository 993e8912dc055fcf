"""Sources whose readers are killed or held up, at a time that is known beforehand."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from raymlops.data.loading import ArraySource, Columns
from tests.train import models


class Deadly:
    """Kills its process, of the n-th pair (rank, reads) once rank has read so often: the first
    process of that rank on the first pair, the next on the second, and so on."""

    def __init__(self, source: ArraySource, deaths: Sequence[tuple[int, int]], folder: str) -> None:
        self._source = source
        self._deaths = deaths
        self._folder = Path(folder)
        self._num_reads = 0

    def __len__(self) -> int:
        return len(self._source)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        self._num_reads += 1
        done = len(list(self._folder.iterdir()))
        if done < len(self._deaths):
            rank, reads = self._deaths[done]
            here = dist.get_rank() if dist.is_initialized() else 0
            if here == rank and self._num_reads == reads:
                (self._folder / f"death-{done}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self._source.take(rows)


def deadly_digits(deaths: Sequence[tuple[int, int]], folder: str, rows: int = 333) -> Deadly:
    return Deadly(models.digits(rows)[0], [(rank, reads) for rank, reads in deaths], folder)


class Gated:
    """Lets a process read so often, and after that only while `folder` holds no file "closed".

    A process that waits there has left a file "WORLD_SIZE-PID" in the folder.
    """

    def __init__(self, source: ArraySource, folder: str, num_reads: int) -> None:
        self._source = source
        self._folder = Path(folder)
        self._reads_left = num_reads

    def __len__(self) -> int:
        return len(self._source)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        self._reads_left -= 1
        if self._reads_left < 0:
            here = dist.get_world_size() if dist.is_initialized() else 1
            (self._folder / f"{here}-{os.getpid()}").touch()
            while (self._folder / "closed").exists():
                time.sleep(0.05)
        return self._source.take(rows)


def gated_digits(folder: str, num_reads: int, rows: int = 333) -> Gated:
    return Gated(models.digits(rows)[0], folder, num_reads)
