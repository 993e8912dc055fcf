"""Reads batches ahead of a training loop, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading.batches import Batch, Position, epoch_batches
from raymlops.data.loading.order import Order
from raymlops.data.loading.source import Columns, Source

Delivered = TypeVar("Delivered")


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[Delivered]):
    """One worker's columns of a global batch of `global_size` rows, and the position after it.

    `first` is the number of the batch's first row of all.
    """

    columns: Delivered
    global_size: int
    first: int
    position: Position


def as_arrays(source: Source, rows: NDArray[np.int64]) -> Columns:
    """Rows as numpy arrays."""
    return source.take(rows)


@dataclass(frozen=True, kw_only=True)
class Loader(Generic[Delivered]):
    """This worker's part of the batches of `order`, read from `source` before they are asked for.

        order = RowShuffle(num_rows=len(source), seed=1)
        loader = Loader(source=source, order=order, deliver=Tensors(), batch_size=256)
        for batch in loader.epoch(Position(epoch=1)):
            step(batch.columns, batch.global_size)

    `deliver` reads rows, in the threads, to what the loop gets: `Tensors()` or `as_arrays`. At
    most `num_ahead` batches wait or are being read; with `num_threads` 0 the loop itself reads.
    """

    source: Source
    order: Order
    deliver: Callable[[Source, NDArray[np.int64]], Delivered]
    batch_size: int
    rank: int = 0
    world_size: int = 1
    num_threads: int = 2
    num_ahead: int = 4

    def __post_init__(self) -> None:
        if self.order.num_rows != len(self.source):
            raise ValueError(
                f"the order is one of {self.order.num_rows} rows, the source has "
                f"{len(self.source)}; give the order the source's number of rows"
            )
        if self.num_threads < 0 or self.num_ahead < 1:
            raise ValueError(
                f"num_threads is {self.num_threads} and num_ahead {self.num_ahead}; the first is "
                "not negative, the second at least 1"
            )

    def epoch(self, start: Position) -> Generator[Loaded[Delivered], None, None]:
        """The batches from `start` to the end of its epoch.

        What a read raises is raised here, in its batch's turn. The threads end with the
        generator: at its end, when the loop is left, or by `close()`.
        """
        batches = epoch_batches(
            self.order,
            start,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
        )
        if self.num_threads:
            yield from self._ahead(batches)
        else:
            yield from map(self._load, batches)

    def _load(self, batch: Batch) -> Loaded[Delivered]:
        return Loaded(
            columns=self.deliver(self.source, batch.rows),
            global_size=batch.global_size,
            first=batch.first,
            position=batch.position,
        )

    def _ahead(self, batches: Iterator[Batch]) -> Generator[Loaded[Delivered], None, None]:
        wanted: SimpleQueue[_Read[Delivered] | None] = SimpleQueue()
        threads = [
            Thread(target=self._read, args=(wanted,), name=f"raymlops-loader-{number}", daemon=True)
            for number in range(self.num_threads)
        ]
        for thread in threads:
            thread.start()
        reads: deque[_Read[Delivered]] = deque()
        try:
            for batch in batches:
                reads.append(_Read(batch))
                wanted.put(reads[-1])
                if len(reads) == self.num_ahead:
                    yield reads.popleft().result()
            while reads:
                yield reads.popleft().result()
        finally:
            for read in reads:
                read.is_wanted = False
            for _ in threads:
                wanted.put(None)
            for thread in threads:
                thread.join()

    def _read(self, wanted: SimpleQueue[_Read[Delivered] | None]) -> None:
        while (read := wanted.get()) is not None:
            if read.is_wanted:
                read.run(self._load)


class _Read(Generic[Delivered]):
    """A batch that one thread reads and another waits for: a Future of `concurrent.futures` takes
    as long as to read a small batch."""

    __slots__ = ("_batch", "_done", "is_wanted")

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._done: SimpleQueue[tuple[Loaded[Delivered] | None, BaseException | None]]
        self._done = SimpleQueue()
        self.is_wanted = True

    def run(self, load: Callable[[Batch], Loaded[Delivered]]) -> None:
        try:
            self._done.put((load(self._batch), None))
        except BaseException as error:  # whatever it is, somebody waits
            self._done.put((None, error))

    def result(self) -> Loaded[Delivered]:
        """Once it is read; raises what that raised."""
        loaded, error = self._done.get()
        if error is not None:
            raise error
        assert loaded is not None, "what raised nothing has read"
        return loaded
