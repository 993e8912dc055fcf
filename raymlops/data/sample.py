"""A uniform sample of a stream of rows, in memory for the sample alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Sample:
    """Holds `max_rows` rows of all that were fed, each as likely as any other, in their order.

    Every row draws a number from a generator with a fixed seed, and those with the smallest stay:
    the same rows give the same sample, and fewer than `max_rows` are all kept.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._random = np.random.default_rng(0)
        self._rows: list[pa.RecordBatch] = []
        self._drawn: list[NDArray[np.float64]] = []

    def feed(self, batch: pa.RecordBatch) -> None:
        self._rows.append(batch)
        self._drawn.append(self._random.random(batch.num_rows))
        if sum(map(len, self._drawn)) > 2 * self._max_rows:
            self._shrink()

    def table(self, schema: pa.Schema) -> pa.Table:
        self._shrink()
        return pa.Table.from_batches(self._rows, schema)

    def _shrink(self) -> None:
        if not self._rows:
            return
        drawn = np.concatenate(self._drawn)
        if len(drawn) <= self._max_rows:
            return
        kept = np.sort(np.argpartition(drawn, self._max_rows)[: self._max_rows])
        table = pa.Table.from_batches(self._rows).take(pa.array(kept)).combine_chunks()
        self._rows, self._drawn = table.to_batches(), [drawn[kept]]
