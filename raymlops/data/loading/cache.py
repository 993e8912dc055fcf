"""Which chunks are resident: those in use, and of the others the last that were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice


class ChunkCache:
    """At most `capacity` chunks; the least recently used leave first, those that are held never.

    Decides only: what comes and goes is up to the caller, who also keeps threads apart.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a cache of {capacity} chunks holds nothing; give it at least one")
        self.capacity = capacity
        self._holders: OrderedDict[int, int] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        return len(self._holders)

    def hold(self, chunks: Sequence[int]) -> list[int] | None:
        """Has `chunks` (distinct) resident until they are released; returns those that left.

        None, and nothing changed, where too many others are held.
        """
        if len(chunks) > self.capacity:
            raise ValueError(f"{len(chunks)} chunks cannot be held in a cache of {self.capacity}")
        wanted = set(chunks)
        excess = len(self._holders) + len(wanted - self._holders.keys()) - self.capacity
        leaving: list[int] = []
        if excess > 0:
            free = (
                chunk
                for chunk, holders in self._holders.items()
                if not holders and chunk not in wanted
            )
            leaving = list(islice(free, excess))
            if len(leaving) < excess:
                return None
        for chunk in leaving:
            del self._holders[chunk]
        for chunk in chunks:
            self._holders[chunk] = self._holders.get(chunk, 0) + 1
            self._holders.move_to_end(chunk)
        return leaving

    def release(self, chunks: Sequence[int]) -> None:
        for chunk in chunks:
            self._holders[chunk] -= 1
