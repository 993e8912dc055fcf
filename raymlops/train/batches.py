"""Which rows each worker reads at each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's rows of a global batch of `global_size` rows."""

    rows: NDArray[np.int64]
    global_size: int


def epoch_batches(
    num_rows: int, *, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """The batches of one epoch: the same global batches whatever the number of workers.

    Worker r takes rows r, r + world_size, ... of each global batch. The last batch is short, and
    a worker's part of it may be empty; `global_size` lets a loss be weighted right all the same.
    """
    order = np.random.default_rng((seed, epoch)).permutation(num_rows)
    for start in range(0, num_rows, batch_size):
        batch = order[start : start + batch_size]
        yield Batch(rows=batch[rank::world_size], global_size=len(batch))
