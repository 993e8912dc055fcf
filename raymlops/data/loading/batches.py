"""Which rows each worker reads at each step, and where to go on after a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raymlops.data.loading.order import Order, Rows


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a training has read: `row` rows of the order of `epoch`.

    It says nothing of workers or batches, so a training goes on from it with other numbers of
    both, and sees no row twice and none not at all.
    """

    epoch: int = 1
    row: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's rows of a global batch of `global_size` rows, and the position after it.

    `first` is the first row of all: for a worker without any, who has to go through the model like
    the others.
    """

    rows: Rows
    global_size: int
    first: int
    position: Position


def epoch_batches(
    order: Order, start: Position, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """The batches from `start` to the end of its epoch: the same global ones for any workers.

    Worker r takes rows r, r + world_size, ... of each global batch. The last batch is short, and
    a worker's part of it may be empty; `global_size` lets a loss be weighted right all the same.
    The position after the last batch is the beginning of the next epoch.
    """
    if batch_size < 1 or not 0 <= rank < world_size:
        raise ValueError(
            f"batch_size is {batch_size} and rank {rank} of {world_size} workers; give at least "
            "one row, and a rank from 0 on below the number of workers"
        )
    if not 0 <= start.row <= order.num_rows:
        raise ValueError(f"{start} is not within the {order.num_rows} rows of the order")
    row = start.row
    for rows in _cut(order.pieces(start.epoch, start.row), batch_size):
        row += len(rows)
        ended = row == order.num_rows
        yield Batch(
            rows=rows[rank::world_size],
            global_size=len(rows),
            first=int(rows[0]),
            position=Position(epoch=start.epoch + 1)
            if ended
            else Position(epoch=start.epoch, row=row),
        )


def _cut(pieces: Iterator[Rows], size: int) -> Iterator[Rows]:
    """The same rows in pieces of `size`, the last one shorter."""
    rest = np.empty(0, dtype=np.int64)
    for piece in pieces:
        rows = np.concatenate([rest, piece]) if len(rest) else piece
        whole = len(rows) - len(rows) % size
        for start in range(0, whole, size):
            yield rows[start : start + size]
        rest = rows[whole:]
    if len(rest):
        yield rest
