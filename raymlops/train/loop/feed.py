"""A source's rows on their way into one worker's model."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeAlias

import numpy as np
import torch

from raymlops.data.loading import Loaded, Loader, Order, Position, Source, Tensors
from raymlops.train.layouts import Rows
from raymlops.train.loop.batches import pieces
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec

Columns: TypeAlias = tuple[torch.Tensor, ...]
Batch: TypeAlias = Loaded[Columns]


class Feed:
    """This worker's share of a source: batches read ahead, and moved to its device in pieces."""

    def __init__(self, spec: TrainSpec, seat: Seat, source: Source, order: Order) -> None:
        self._source = source
        self._device = seat.device.where
        self._batch_size = spec.batch_size
        self._most_pieces = spec.accumulation
        self._replica, self._num_replicas = seat.replica, seat.plan.num_replicas
        self._loader = Loader(
            source=source,
            order=order,
            deliver=Tensors(pin_memory=seat.device.where.type == "cuda"),
            batch_size=spec.batch_size,
            rank=self._replica,
            world_size=self._num_replicas,
            num_threads=spec.loading.num_threads,
            num_ahead=spec.loading.num_ahead,
        )

    def __len__(self) -> int:
        return len(self._source)

    def probe(self, num_rows: int) -> Columns:
        """The first rows of the source, or all if they are fewer, the same for every worker."""
        return self._moved(self._read(np.arange(min(num_rows, len(self)))))

    def epoch(self, start: Position) -> Generator[Batch, None, None]:
        """The batches from `start` to the end of its epoch; close it, and no thread is left."""
        return self._loader.epoch(start)

    def pieces(self, batch: Batch) -> Iterator[Rows]:
        """The rows of a batch, in as many pieces for every worker.

        A piece is made of the same rows under every plan, of which this worker takes its own. All
        go through the model together: where one has no rows left, a row of another's stands in.
        """
        for piece in pieces(batch.global_size, self.num_pieces(batch)):
            mine = slice(*(self._num_before(row) for row in (piece.start, piece.stop)))
            columns = tuple(column[mine] for column in batch.columns)
            counts = len(columns[-1]) > 0
            if not counts:
                columns = self._read(np.array([batch.first]))
            *inputs, targets = self._moved(columns)
            full = batch.global_size == self._batch_size
            yield Rows(inputs=tuple(inputs), targets=targets, counts=counts, full=full)

    def num_pieces(self, batch: Batch) -> int:
        """How many pieces a batch comes in, each of which has rows of some worker."""
        return min(self._most_pieces, batch.global_size)

    def _num_before(self, row: int) -> int:
        """How many rows of a global batch before this one are this worker's."""
        return -(-max(0, row - self._replica) // self._num_replicas)

    def _read(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Columns:
        return self._loader.deliver(self._source, rows)

    def _moved(self, columns: Columns) -> Columns:
        return tuple(column.to(self._device, non_blocking=True) for column in columns)
