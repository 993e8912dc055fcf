"""What lies where in the memory of a node: its shards' parameters, and a worker's gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.train.server.memory import Layout, SharedMemory, Spec
from raymlops.train.server.partition import Partition

MAX_WORKERS = 256
JOURNAL_ENTRIES = 65_536

ROSTER = np.dtype(
    [
        ("loaded", "u8"),
        ("weighed", "u8"),
        ("norm", "f8"),
        (
            "workers",
            [
                ("incarnation", "u8"),
                ("pid", "i8"),
                ("started_s", "f8"),
                ("living", "u1"),
            ],
            (MAX_WORKERS,),
        ),
    ]
)
"""Who works with a shard. A worker counts as living until its process is known to have ended.

Where gradients are clipped, `norm` is that of update `weighed`."""

HEADER = np.dtype(
    [
        ("begun", "u8"),
        ("committed", "u8"),
        ("bases", "i8", (MAX_WORKERS,)),
        ("sequences", "u8", (2, MAX_WORKERS)),
        ("journaled", "u8", (2,)),
        ("journal", [("version", "u8"), ("worker", "u8"), ("sequence", "u8")], (JOURNAL_ENTRIES,)),
    ]
)
"""The state of a block beside its numbers. What has two entries belongs to buffer 0 and 1."""

DENSE = 0
"""The block of the flat vector; tables are blocks 1, 2, ..."""

Key = tuple[Any, ...]
Buffers = tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]
"""Of each buffer the parameters, then each state of the optimizer."""


@dataclass(frozen=True, kw_only=True)
class NodeShare:
    """The part of a partition on one node: shards that follow each other."""

    partition: Partition
    shards: range

    @property
    def start(self) -> int:
        return self.partition.cuts[self.shards.start]

    @property
    def stop(self) -> int:
        return self.partition.cuts[self.shards.stop]

    def slice_of(self, shard: int) -> slice:
        """Where the shard's range lies in the node's flat vector."""
        cuts = self.partition.cuts
        return slice(cuts[shard] - self.start, cuts[shard + 1] - self.start)


class Arena:
    """The memory of a node in which its shards keep their parameters, twice.

    Dense parameters of all its shards lie together, so that a worker reads them as one array.
    """

    def __init__(self, share: NodeShare, num_states: int, memory: SharedMemory) -> None:
        self._share = share
        self._num_states = num_states
        self._memory = memory
        self._layout = _arena_layout(share, num_states)

    @staticmethod
    def size_bytes(share: NodeShare, num_states: int) -> int:
        return _arena_layout(share, num_states).size_bytes

    def roster(self, shard: int) -> NDArray[Any]:
        return self._view("roster", shard)

    def header(self, shard: int, block: int) -> NDArray[Any]:
        return self._view("header", shard, block)

    def dense(self, buffer: int) -> NDArray[Any]:
        """The parameters of all shards of the node in one of the two buffers."""
        return self._view("dense", buffer, 0)

    def buffers(self, shard: int, block: int) -> Buffers:
        first, second = (
            tuple(self._numbers(shard, block, buffer, kind) for kind in range(1 + self._num_states))
            for buffer in (0, 1)
        )
        return first, second

    def _numbers(self, shard: int, block: int, buffer: int, kind: int) -> NDArray[Any]:
        if block == DENSE:
            return self._view("dense", buffer, kind)[self._share.slice_of(shard)]
        return self._view("table", shard, block, buffer, kind)

    def _view(self, *key: Any) -> NDArray[Any]:
        return self._layout.view(self._memory, key)


class Slots:
    """A worker's gradients on their way: `num_slots` of each block, for all shards."""

    def __init__(self, partition: Partition, num_slots: int, memory: SharedMemory) -> None:
        self._cuts = partition.cuts
        self._memory = memory
        self._layout = _slots_layout(partition, num_slots)

    @staticmethod
    def size_bytes(partition: Partition, num_slots: int) -> int:
        return _slots_layout(partition, num_slots).size_bytes

    def dense(self, slot: int) -> NDArray[Any]:
        """The gradients of all dense parameters."""
        return self._layout.view(self._memory, ("dense", slot))

    def dense_of(self, shard: int, slot: int) -> NDArray[Any]:
        return self.dense(slot)[self._cuts[shard] : self._cuts[shard + 1]]

    def rows_of(self, shard: int, block: int, slot: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Room for keys and gradients of every row of a table that `shard` has."""
        keys = self._layout.view(self._memory, ("keys", shard, block, slot))
        return keys, self._layout.view(self._memory, ("rows", shard, block, slot))


def _arena_layout(share: NodeShare, num_states: int) -> Layout[Key]:
    partition, dtype = share.partition, np.dtype(share.partition.dtype)
    arrays: dict[Key, Spec] = {}
    for shard in share.shards:
        arrays["roster", shard] = ((), ROSTER)
        for block in range(1 + len(partition.tables)):
            arrays["header", shard, block] = ((), HEADER)
    for buffer in (0, 1):
        for kind in range(1 + num_states):
            arrays["dense", buffer, kind] = ((share.stop - share.start,), dtype)
            for shard in share.shards:
                for block, table in enumerate(partition.tables, start=1):
                    shape = (partition.num_rows(table, shard), table.width)
                    arrays["table", shard, block, buffer, kind] = (shape, dtype)
    return Layout(arrays)


def _slots_layout(partition: Partition, num_slots: int) -> Layout[Key]:
    dtype = np.dtype(partition.dtype)
    arrays: dict[Key, Spec] = {}
    for slot in range(num_slots):
        arrays["dense", slot] = ((partition.cuts[-1],), dtype)
        for shard in range(partition.num_shards):
            for block, table in enumerate(partition.tables, start=1):
                rows = partition.num_rows(table, shard)
                arrays["keys", shard, block, slot] = ((rows,), np.dtype(np.int64))
                arrays["rows", shard, block, slot] = ((rows, table.width), dtype)
    return Layout(arrays)


def shares(partition: Partition, placement: Sequence[str]) -> dict[str, NodeShare]:
    """The share of each node, given the node of each shard."""
    found: dict[str, NodeShare] = {}
    for node in dict.fromkeys(placement):
        first = placement.index(node)
        last = first + placement.count(node)
        found[node] = NodeShare(partition=partition, shards=range(first, last))
    return found
