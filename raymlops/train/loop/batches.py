"""Which rows each worker reads at each step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's rows of a global batch of `global_size` rows, the first of which is `first`."""

    rows: NDArray[np.int64]
    global_size: int
    first: int


class Length(Protocol):
    """How long a spec trains: `epochs` of batches, but no more than `max_steps`."""

    @property
    def batch_size(self) -> int: ...

    @property
    def epochs(self) -> int: ...

    @property
    def max_steps(self) -> int | None: ...


def num_steps(length: Length, num_rows: int) -> int:
    """How many optimizer steps a training takes that nothing ends early."""
    steps = length.epochs * math.ceil(num_rows / length.batch_size)
    return steps if length.max_steps is None else min(steps, length.max_steps)


def epoch_batches(
    num_rows: int, *, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """The batches of one epoch: the same global batches whatever the number of workers.

    Worker r takes rows r, r + world_size, ... of each global batch. The last batch is short, and
    a worker's part of it may be empty; `global_size` lets a loss be weighted right all the same.
    """
    order = np.random.default_rng((seed, epoch)).permutation(num_rows)
    yield from batches_of(order, batch_size=batch_size, rank=rank, world_size=world_size)


def batches_of(
    order: NDArray[np.int64], *, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """The worker's batches of rows in the given order."""
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        yield Batch(rows=batch[rank::world_size], global_size=len(batch), first=int(batch[0]))


def pieces(num_rows: int, count: int) -> Iterator[slice]:
    """Rows in `count` pieces, whose lengths differ by one at most; the last may be empty."""
    length, longer = divmod(num_rows, count)
    start = 0
    for number in range(count):
        end = start + length + (number < longer)
        yield slice(start, end)
        start = end
