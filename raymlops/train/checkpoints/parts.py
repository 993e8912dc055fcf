"""Which rows each worker writes of what several of them hold.

                 worker 0                   worker 1
    torch's way  the weight, a moment       the other moment
    here         the first half of each     the second half of each

Where one of them writes the whole of a tensor, all wait for who has the largest ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

_MIN_BYTES = 1 << 20
"""Smaller tensors are many, and come out even; each part has a frame of a kilobyte, too."""


def share_out(plans: Sequence[SavePlan]) -> list[SavePlan]:
    """The plans of all workers, by rank, in which each has a part of every large tensor that it
    holds and others hold as well."""
    holders: dict[MetadataIndex, list[int]] = defaultdict(list)
    for rank, plan in enumerate(plans):
        for item in plan.items:
            holders[item.index].append(rank)
    return [
        replace(
            plan,
            items=[
                _part(item, holders[item.index].index(rank), len(holders[item.index]))
                for item in plan.items
            ],
        )
        for rank, plan in enumerate(plans)
    ]


def _part(item: WriteItem, number: int, count: int) -> WriteItem:
    """Part `number` of `count` of its rows; the whole of what is small or has too few."""
    data = item.tensor_data
    if data is None or count == 1 or _size_bytes(data) < _MIN_BYTES or data.chunk.sizes[0] < count:
        return item
    offset, *other_offsets = data.chunk.offsets
    num_rows, *other_sizes = data.chunk.sizes
    start, end = num_rows * number // count, num_rows * (number + 1) // count
    chunk = ChunkStorageMetadata(
        offsets=torch.Size([offset + start, *other_offsets]),
        sizes=torch.Size([end - start, *other_sizes]),
    )
    return replace(
        item,
        index=MetadataIndex(item.index.fqn, chunk.offsets),
        type=WriteItemType.SHARD,
        tensor_data=replace(data, chunk=chunk),
    )


def _size_bytes(data: TensorWriteData) -> int:
    """Of the rows that a worker holds."""
    return math.prod(data.chunk.sizes) * data.properties.dtype.itemsize
