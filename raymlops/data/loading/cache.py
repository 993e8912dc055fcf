"""Which chunks are resident: those in use, and of the others the last that were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Chunks = NDArray[np.int64]
"""Distinct numbers of chunks, [chunks]."""


class ChunkCache:
    """At most `capacity` of `num_chunks`; the least recently used leave first, those that are held
    never.

    Decides only: what comes and goes is up to the caller, who also keeps threads apart. A batch of
    shuffled rows is of hundreds of chunks, hence the arrays.
    """

    def __init__(self, num_chunks: int, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a cache of {capacity} chunks holds nothing; give it at least one")
        self.capacity = capacity
        self._num_holders = np.zeros(num_chunks, dtype=np.int32)
        self._used_at = np.zeros(num_chunks, dtype=np.int64)  # in holds so far; 0 is not resident
        self._num_holds = 0
        self._num_resident = 0

    def __len__(self) -> int:
        return self._num_resident

    def hold(self, chunks: Chunks) -> Chunks | None:
        """Has `chunks` resident until they are released; returns those that left.

        None, and nothing changed, where too many others are held.
        """
        if len(chunks) > self.capacity:
            raise ValueError(f"{len(chunks)} chunks cannot be held in a cache of {self.capacity}")
        num_new = len(chunks) - int(np.count_nonzero(self._used_at[chunks]))
        excess = self._num_resident + num_new - self.capacity
        self._num_holders[chunks] += 1
        leaving = np.empty(0, dtype=np.int64)
        if excess > 0:
            free = np.flatnonzero((self._used_at > 0) & (self._num_holders == 0))
            if len(free) < excess:
                self._num_holders[chunks] -= 1
                return None
            leaving = free[np.argsort(self._used_at[free], kind="stable")[:excess]]
            self._used_at[leaving] = 0
        self._num_holds += 1
        self._used_at[chunks] = self._num_holds
        self._num_resident += num_new - len(leaving)
        return leaving

    def release(self, chunks: Chunks) -> None:
        self._num_holders[chunks] -= 1
