"""Which shard holds which part of the parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32] | NDArray[np.float64]

ALIGNMENT = 16
"""Parameters and cuts start at multiples of so many elements: a cache line in either type."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Elements `start` to `stop` of a flattened parameter, at `offset` in the flat vector."""

    name: str
    start: int
    stop: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Table:
    """A parameter that is pushed and pulled by rows, such as an embedding."""

    name: str
    num_rows: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Partition:
    """All dense parameters lie in one flat vector, cut into one range a shard.

        weight           bias   scale
        |----------------|------|---|
        |  shard 0   |  shard 1     |

    Row r of a table lies on shard r modulo the number of shards, which spreads frequent rows that
    follow each other. `shapes` are those of the dense parameters; `cuts` has one entry more than
    there are shards.
    """

    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    offsets: Mapping[str, int]
    cuts: tuple[int, ...]
    tables: tuple[Table, ...]

    @property
    def num_shards(self) -> int:
        return len(self.cuts) - 1

    @property
    def size_bytes(self) -> int:
        """Of all parameters, without what the optimizer keeps beside them."""
        elements = sum(math.prod(shape) for shape in self.shapes.values())
        elements += sum(table.num_rows * table.width for table in self.tables)
        return elements * np.dtype(self.dtype).itemsize

    def pieces(self, start: int, stop: int) -> tuple[Piece, ...]:
        """What lies between two places of the flat vector."""
        found = []
        for name, shape in self.shapes.items():
            begin = self.offsets[name]
            low, high = max(start, begin), min(stop, begin + math.prod(shape))
            if low < high:
                found.append(Piece(name=name, start=low - begin, stop=high - begin, offset=low))
        return tuple(found)

    def values_of(self, shard: int, parameters: Mapping[str, Array]) -> list[NDArray[Any]]:
        """What of `parameters` lies on `shard`: its range of the flat vector, then its rows."""
        start, stop = self.cuts[shard], self.cuts[shard + 1]
        flat = np.zeros(stop - start, self.dtype)
        for piece in self.pieces(start, stop):
            values = parameters[piece.name].reshape(-1)[piece.start : piece.stop]
            flat[piece.offset - start : piece.offset - start + len(values)] = values
        tables = [parameters[table.name][shard :: self.num_shards] for table in self.tables]
        return [flat, *tables]

    def num_rows(self, table: Table, shard: int) -> int:
        """How many rows of `table` lie on `shard`."""
        return len(range(shard, table.num_rows, self.num_shards))


def divide(
    parameters: Mapping[str, Array], *, num_shards: int, tables: Collection[str] = ()
) -> Partition:
    """The parts for `num_shards` shards, of equal size within 16 elements and one row a table.

    Raises:
        ValueError: the parameters are not of one floating type, a table is missing or not
            [rows, width], or there is too little for so many shards.
    """
    dtype = _common_dtype(parameters)
    unknown = sorted(set(tables) - set(parameters))
    if unknown:
        raise ValueError(f"tables are {unknown}, but the parameters are {sorted(parameters)}")
    offsets: dict[str, int] = {}
    end = 0
    for name, values in parameters.items():
        if name not in tables:
            offsets[name] = end
            end += math.ceil(values.size / ALIGNMENT) * ALIGNMENT
    found = tuple(_table(name, parameters[name]) for name in parameters if name in tables)
    units = end // ALIGNMENT
    most = most_shards({name: values.shape for name, values in parameters.items()}, tables)
    if not 1 <= num_shards <= most:
        raise ValueError(
            f"num_shards is {num_shards}, but the parameters fill at least 1 and at most "
            f"{most} (a shard holds {ALIGNMENT} elements or a row of a table)"
        )
    return Partition(
        dtype=dtype,
        shapes={name: parameters[name].shape for name in offsets},
        offsets=offsets,
        cuts=tuple(units * shard // num_shards * ALIGNMENT for shard in range(num_shards + 1)),
        tables=found,
    )


def most_shards(shapes: Mapping[str, tuple[int, ...]], tables: Collection[str]) -> int:
    """Among how many shards parameters of these shapes can be divided."""
    units = sum(
        math.ceil(math.prod(shape) / ALIGNMENT)
        for name, shape in shapes.items()
        if name not in tables
    )
    return max(units, *(shapes[name][0] for name in tables), 0)


def place(num_shards: int, nodes: Sequence[str]) -> tuple[str, ...]:
    """The node of each shard: spread evenly, neighbours together, so that workers read them as one.

    Raises:
        ValueError: there is no node.
    """
    if not nodes:
        raise ValueError("there is no node to place shards on")
    used = nodes[:num_shards]
    return tuple(used[shard * len(used) // num_shards] for shard in range(num_shards))


def replica_nodes(placement: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
    """The node of each shard's replica: the one after the shard's own.

    Raises:
        ValueError: there is no other node.
    """
    if len(nodes) < 2:
        raise ValueError(
            f"durability 'node' keeps a second copy on another node, but the cluster has "
            f"{len(nodes)}; add one, or choose durability 'process'"
        )
    return tuple(nodes[(nodes.index(node) + 1) % len(nodes)] for node in placement)


def _common_dtype(parameters: Mapping[str, Array]) -> str:
    types = {name: str(np.asarray(values).dtype) for name, values in parameters.items()}
    if set(types.values()) not in ({"float32"}, {"float64"}):
        raise ValueError(
            f"the parameters are of types {types or 'none'}; all must be float32, or all float64"
        )
    return next(iter(types.values()))


def _table(name: str, values: Array) -> Table:
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"table {name!r} has shape {values.shape}, not [rows, width]")
    return Table(name=name, num_rows=values.shape[0], width=values.shape[1])
