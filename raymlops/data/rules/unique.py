"""Rule: no two rows agree in some columns; exact, in bounded memory.

Rows lie in memory up to a size. Beyond it they go to temporary files by the hash of their key, so
equal keys meet in one file, and the files are counted one after the other: the partitioning of a
grace hash join. Counting with hashes alone would need 8 bytes a row, refuse good tables by chance
once there are billions of them, and could show no example.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raymlops.data.rules.base import (
    NUM_EXAMPLES,
    Expectation,
    Finding,
    References,
    example,
    is_number,
)

_BUFFER_BYTES = 64 << 20
_NUM_PARTITIONS = 64


@dataclass(frozen=True, kw_only=True)
class Unique(Expectation):
    """No two rows agree in all of `columns`; missing values are equal to each other."""

    rule: Literal["unique"] = "unique"
    columns: tuple[str, ...]
    wants: ClassVar[str] = "single value"

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("a rule about uniqueness names no columns")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns

    def accepts(self, kind: pa.DataType) -> bool:
        return not pa.types.is_nested(kind)

    def checker(self, schema: pa.Schema, references: References | None) -> UniqueChecker:
        return UniqueChecker(self.columns)


@dataclass
class UniqueChecker:
    """`buffer_bytes` of keys are held in memory; what is more goes to temporary files."""

    columns: tuple[str, ...]
    buffer_bytes: int = _BUFFER_BYTES
    buffer: list[pa.RecordBatch] = field(default_factory=list)
    buffered_bytes: int = 0
    partitions: list[_Partition] = field(default_factory=list)

    def feed(self, batch: pa.RecordBatch) -> None:
        keys = _plain(batch.select(list(self.columns)))
        self.buffer.append(keys)
        self.buffered_bytes += keys.nbytes
        if self.buffered_bytes > self.buffer_bytes:
            self._spill()

    def findings(self, num_rows: int) -> Iterator[Finding]:
        num_broken, examples = 0, list[str]()
        for keys in self._groups():
            repeated, shown = _repeated(keys)
            num_broken += repeated
            examples += shown[: NUM_EXAMPLES - len(examples)]
        yield Finding(
            column=", ".join(self.columns),
            rule="unique",
            num_broken=num_broken,
            num_rows=num_rows,
            examples=tuple(examples),
        )

    def _groups(self) -> Iterator[pa.Table]:
        """Tables such that equal keys lie in the same one."""
        if not self.partitions:
            if self.buffer:
                yield pa.Table.from_batches(self.buffer)
            return
        self._spill()
        for partition in self.partitions:
            yield partition.read()
        self.partitions = []

    def _spill(self) -> None:
        if not self.buffer:
            return
        keys = pa.Table.from_batches(self.buffer).combine_chunks()
        self.buffer, self.buffered_bytes = [], 0
        if not self.partitions:
            self.partitions = [_Partition.empty(keys.schema) for _ in range(_NUM_PARTITIONS)]
        place = _hash(keys) % np.uint64(_NUM_PARTITIONS)
        order = np.argsort(place, kind="stable")
        ends = np.cumsum(np.bincount(place.astype(np.int64), minlength=_NUM_PARTITIONS))
        sorted_keys = keys.take(pa.array(order))
        for partition, start, end in zip(self.partitions, [0, *ends[:-1]], ends, strict=True):
            partition.write(sorted_keys.slice(start, end - start))


@dataclass(frozen=True)
class _Partition:
    file: IO[bytes]
    writer: Any

    @classmethod
    def empty(cls, schema: pa.Schema) -> _Partition:
        file = tempfile.TemporaryFile(prefix="raymlops-unique-")  # noqa: SIM115 - closed when read
        return cls(file, pa.ipc.new_stream(file, schema))

    def write(self, keys: pa.Table) -> None:
        self.writer.write_table(keys)

    def read(self) -> pa.Table:
        self.writer.close()
        with self.file:
            self.file.seek(0)
            return pa.ipc.open_stream(self.file).read_all()


def _plain(keys: pa.RecordBatch) -> pa.RecordBatch:
    """Keys as they are compared: dictionaries by value, so that batches with different ones fit."""
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in keys.columns
    ]
    return pa.record_batch(columns, names=keys.schema.names)


def _hash(keys: pa.Table) -> NDArray[np.uint64]:
    """A hash of each row [rows] that depends on its values alone, not on what lies beside it."""
    from pandas.util import hash_array

    mixed = np.zeros(keys.num_rows, dtype=np.uint64)
    for column in keys.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        if is_number(column.type):
            # pandas would turn integers into floats only where one is missing: fill those first.
            values = column.fill_null(0).to_numpy()
        else:
            values = np.array([str(value) for value in column.to_pylist()], dtype=object)
        mixed = mixed * np.uint64(31) + hash_array(values, categorize=False)
    return mixed


def _repeated(keys: pa.Table) -> tuple[int, list[str]]:
    """How many rows repeat an earlier one, and examples of what is repeated."""
    names = keys.column_names
    counted = keys.group_by(names).aggregate([([], "count_all")])
    repeated = counted.filter(pc.greater(counted["count_all"], 1)).slice(0, NUM_EXAMPLES)
    examples = [
        f"{example(*key)} ({count} times)"
        for *key, count in zip(*repeated.select([*names, "count_all"]).columns, strict=True)
    ]
    return keys.num_rows - counted.num_rows, examples
