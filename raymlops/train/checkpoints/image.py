"""A worker's part of a checkpoint: the bytes of its file, laid out once.

    memory   │head│ weight │tail│head│ bias │tail│ ...   in whole pages
    file     the same bytes

Planning a checkpoint takes a word from every worker, and serialising it copies every tensor more
than once, with Python's lock held. But from one checkpoint to the next only numbers change. So
torch's planner is asked once, every item is serialised once, and from then on numbers are copied
to where they lie. What comes out is read by torch.distributed.checkpoint as its own.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType
from torch.distributed.tensor import DTensor

from raymlops.storage.direct import paged_memory, write_direct
from raymlops.train.checkpoints.digest import digest
from raymlops.train.checkpoints.parts import share_out

_Places: TypeAlias = dict[MetadataIndex, _StorageInfo]
_Rows: TypeAlias = slice | None
"""Those that are written of what a worker holds; None is all of it."""

# What torch aligns numbers to within an item; so must the item be within the file.
_ALIGNMENT_BYTES = 64
_METADATA = ".metadata"  # where torch looks for it

_PLAIN = (bool, int, float, str, type(None))
_LEAVES = (torch.Tensor, tuple, *_PLAIN)


class Image:
    """The file of one worker. That of rank 0 has another beside it which tells torch what is in
    those of all, and there alone `files` knows them.

    All workers of `group` make one together, each from the tensors it holds; a group of None is
    one worker alone.
    """

    def __init__(self, tensors: dict[str, Any], group: dist.ProcessGroup | None) -> None:
        self._rank = 0 if group is None else dist.get_rank(group)
        held, plan, metadata = self._planned(tensors, group)
        self._numbers: list[tuple[str, _Rows, torch.Tensor]] = []
        self._values: list[tuple[str, slice]] = []
        self._written: dict[str, object] = {}  # of what never changes in place
        found = _flat(tensors)
        self._kinds = _kinds(found)
        places = self._lay_out(plan, found, _chunks(held))
        self._metadata = _described(metadata, places, group)
        self._names = {place.relative_path for place in metadata.storage_data.values()}
        self.fill(tensors)

    def fill(self, tensors: dict[str, Any]) -> bool:
        """Copies what the tensors hold now; they may change again when this returns.

        False if they are of other names or shapes, or what is no tensor of another size, than was
        laid out: then make another image.
        """
        found = _flat(tensors)
        if _kinds(found) != self._kinds:
            return False
        for name, span in self._values:
            value = found[name]
            if name in self._written and value is self._written[name]:
                continue
            text = _serialised(value)
            if len(text) != span.stop - span.start:
                return False
            self._memory[span] = text
            if _is_plain(value):
                self._written[name] = value
        for name, rows, numbers in self._numbers:
            numbers.copy_(_held(found[name], rows))
        return True

    def write(self, folder: Path) -> int:
        """Writes what is this worker's to write, durably; returns the digest of its file."""
        write_direct(folder / _name(self._rank), self._memory, self._size_bytes)
        if self._rank == 0:
            with open(folder / _METADATA, "wb") as file:
                file.write(self._metadata)
                file.flush()
                os.fsync(file.fileno())
        with memoryview(self._memory) as whole:
            return digest(whole[: self._size_bytes])

    def files(self, digests: Sequence[int]) -> dict[str, int]:
        """The digests of all that makes the checkpoint, by name, from those of the workers."""
        parts = {_name(rank): each for rank, each in enumerate(digests)}
        return {name: parts[name] for name in sorted(self._names)} | {
            _METADATA: digest(self._metadata)
        }

    def _planned(
        self, tensors: dict[str, Any], group: dist.ProcessGroup | None
    ) -> tuple[SavePlan, SavePlan, Metadata]:
        """What this worker holds, what of that it writes, and what a reader must know of all."""
        planner = DefaultSavePlanner()
        planner.set_up_planner(tensors, is_coordinator=self._rank == 0)
        held = planner.create_local_plan()
        plans: list[Any] = [held]
        if group is not None:
            plans = [None] * dist.get_world_size(group)
            dist.all_gather_object(plans, held, group=group)
        of_all, metadata = planner.create_global_plan(share_out(plans))
        return held, planner.finish_plan(of_all[self._rank]), metadata

    def _lay_out(
        self, plan: SavePlan, found: Mapping[str, Any], chunks: Mapping[str, ChunkStorageMetadata]
    ) -> _Places:
        """Gives every item its place in new memory, with all of it that stays the same."""
        places: _Places = {}
        frames: list[tuple[int, bytes]] = []
        spans: list[tuple[str, _Rows, slice]] = []
        end = 0
        for item in plan.items:
            name = item.index.fqn
            start = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
            if item.type == WriteItemType.BYTE_IO:
                end = start + len(_serialised(found[name]))
                self._values.append((name, slice(start, end)))
            else:
                rows = _rows(item, chunks[name])
                tensor = _held(found[name], rows)
                head, tail = _frame(tensor)
                numbers = slice(start + len(head), start + len(head) + tensor.nbytes)
                end = numbers.stop + len(tail)
                spans.append((name, rows, numbers))
                frames += [(start, head), (numbers.stop, tail)]
            places[item.index] = _StorageInfo(_name(self._rank), start, end - start)
        self._size_bytes = end
        self._memory = paged_memory(end)
        for start, frame in frames:
            self._memory[start : start + len(frame)] = frame
        whole = torch.frombuffer(self._memory, dtype=torch.uint8)
        for name, rows, span in spans:
            tensor = _held(found[name], rows)
            self._numbers.append((name, rows, whole[span].view(tensor.dtype).view(tensor.shape)))
        return places


def _chunks(held: SavePlan) -> dict[str, ChunkStorageMetadata]:
    """Where in the whole tensors that lies which a worker holds, by name."""
    data = {item.index.fqn: item.tensor_data for item in held.items}
    return {name: each.chunk for name, each in data.items() if each is not None}


def _rows(item: WriteItem, held: ChunkStorageMetadata) -> _Rows:
    assert item.tensor_data is not None, "what is no value is numbers"
    chunk = item.tensor_data.chunk
    if chunk == held:
        return None
    start = chunk.offsets[0] - held.offsets[0]
    return slice(start, start + chunk.sizes[0])


def _name(rank: int) -> str:
    return f"__{rank}_0.distcp"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What torch's planner makes of such a tree, which takes ten times as long."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, _LEAVES):
            found[name] = value
        elif isinstance(value, dict):
            found |= _flat(value, f"{name}.")
        else:
            found |= flatten_state_dict({name: value})[0]
    return found


def _held(tensor: torch.Tensor, rows: _Rows) -> torch.Tensor:
    """These of the rows that this worker holds of it."""
    held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return held if rows is None else held[rows]


def _kinds(tensors: Mapping[str, Any]) -> dict[str, tuple[torch.Size, torch.dtype] | None]:
    """Shape and dtype by name, None of what is no tensor."""
    return {
        name: (value.shape, value.dtype) if isinstance(value, torch.Tensor) else None
        for name, value in tensors.items()
    }


def _described(metadata: Metadata, places: _Places, group: dist.ProcessGroup | None) -> bytes:
    """What tells a reader where everything lies, on rank 0."""
    found: list[Any] | None = [places]
    if group is not None:
        is_first = dist.get_rank(group) == 0
        found = [None] * dist.get_world_size(group) if is_first else None
        dist.gather_object(places, found, group=group, group_dst=0)
    metadata.storage_data = {index: place for each in found or () for index, place in each.items()}
    metadata.version = CURRENT_DCP_VERSION
    return pickle.dumps(metadata)


def _frame(tensor: torch.Tensor) -> tuple[bytes, bytes]:
    """What torch.save writes before and after the numbers of such a tensor, which it lets others
    fill in (`skip_data`)."""
    file = io.BytesIO()
    with torch.serialization.skip_data():
        torch.save(torch.empty(tensor.shape, dtype=tensor.dtype), file)
    file.seek(0)
    reader: Any = torch._C.PyTorchFileReader(file)  # torch's stub lacks what torch.load calls
    start: int = reader.get_record_offset("data/0")
    assert start % _ALIGNMENT_BYTES == 0, f"torch aligned numbers to byte {start}"
    with file.getbuffer() as archived:
        return bytes(archived[:start]), bytes(archived[start + tensor.nbytes :])


def _serialised(value: object) -> bytes:
    """What is no tensor; an optimizer holds the same few values for every parameter."""
    if _is_plain(value):
        return _plain_serialised(repr(value), value)
    return _saved(value)


def _is_plain(value: object) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return all(isinstance(part, _PLAIN) for part in parts)


@lru_cache(maxsize=256)
def _plain_serialised(text: str, value: object) -> bytes:
    """`text` tells 1 from 1.0 and True."""
    return _saved(value)


def _saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
