"""Rows of a Ray dataset: found by number, or as they come."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data.loading.fields import Field, fields_of
from raymlops.data.loading.source import Columns, check_rows
from raymlops.data.loading.tables import Names, columns_of
from raymlops.data.tensors import no_rows
from raymlops.errors import DataError

if TYPE_CHECKING:
    import ray
    from ray.data import DataIterator, Dataset

CACHED_BLOCKS = 16


class RayDataSource:
    """The rows of a dataset that is in Ray's object store, whatever node its blocks lie on.

    `columns` are named as for `write_table`, and may be Ray's tensors as well. Passed to workers it
    takes references along, not rows. A worker holds the blocks it read last; numbers of a block on
    its own node are not copied. A dataset that is computed again may have its blocks in another
    order, unless its `DataContext` preserves it: a position in one is not a position in the other
    then.

    `fields` are what the columns are over all blocks: of numbers that are whole in one and not in
    another it is the type that holds both.

    Raises:
        DataError: `take` found that a column misses values.
    """

    def __init__(
        self,
        blocks: Sequence[ray.ObjectRef[pa.Table]],
        lengths: Sequence[int],
        columns: Sequence[Names],
        fields: Sequence[Field],
        cached_blocks: int = CACHED_BLOCKS,
    ) -> None:
        self._blocks = tuple(blocks)
        self._lengths = tuple(lengths)
        self._names = tuple(columns)
        self._fields = tuple(fields)
        self._ends = np.cumsum(self._lengths)
        self._cached_blocks = cached_blocks
        self._held: OrderedDict[int, Columns] = OrderedDict()  # the least recently used first
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls, dataset: Dataset, columns: Sequence[Names], *, cached_blocks: int = CACHED_BLOCKS
    ) -> RayDataSource:
        """Computes the dataset, if it is not yet, into the object store.

        Raises:
            DataError: the dataset has no rows; a column is missing, is not of numbers, or has rows
                of several shapes; or this is an actor, such as a worker of a training, and no CPU
                is free: it may hold the one that it would wait for.
        """
        import ray

        untyped: Any = ray
        _require_cpu(untyped)
        blocks = dataset.materialize().to_arrow_refs()
        look = untyped.remote(num_cpus=0)(_length_and_schema)
        seen = untyped.get([look.remote(block) for block in blocks])
        # What a filter has emptied knows no columns any more.
        schemas = [schema for num_rows, schema in seen if num_rows]
        if not schemas:
            raise DataError("the Ray dataset has no rows")
        lengths = [num_rows for num_rows, _ in seen]
        return cls(blocks, lengths, columns, _common_fields(schemas, columns), cached_blocks)

    def __len__(self) -> int:
        return sum(self._lengths)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        check_rows(rows, len(self))
        blocks = np.searchsorted(self._ends, rows, side="right")
        into = tuple(np.empty((len(rows), *field.shape), field.dtype) for field in self._fields)
        for block in np.unique(blocks).tolist():
            here = np.flatnonzero(blocks == block)
            first = self._ends[block] - self._lengths[block]
            for column, target in zip(self._columns(block), into, strict=True):
                target[here] = column[rows[here] - first]
        return into

    def __reduce__(self) -> tuple[Any, ...]:
        held = (self._blocks, self._lengths, self._names, self._fields, self._cached_blocks)
        return type(self), held

    def _columns(self, block: int) -> Columns:
        import ray

        untyped: Any = ray
        with self._lock:
            if block not in self._held:
                self._held[block] = columns_of(
                    _plain(untyped.get(self._blocks[block])), self._names
                )
                if len(self._held) > self._cached_blocks:
                    self._held.popitem(last=False)
            self._held.move_to_end(block)
            return self._held[block]


def stream_columns(
    shard: DataIterator, columns: Sequence[Names], *, batch_size: int
) -> Iterator[Columns]:
    """A worker's shard in batches, as they come: for what no object store holds at once.

    The shard is what `ray.train.get_dataset_shard` or `Dataset.streaming_split` gives a worker.
    Ray decides the order, so unlike a `Source` it cannot go on in the middle of an epoch.

    Raises:
        DataError: a column is missing, is not of numbers, or misses values.
    """
    for table in shard.iter_batches(batch_size=batch_size, batch_format="pyarrow"):
        yield columns_of(_plain(table), columns)


def _require_cpu(untyped: Any) -> None:
    if untyped.get_runtime_context().get_actor_id() is None:
        return
    free, every = (
        found().get("CPU", 0.0)
        for found in (untyped.available_resources, untyped.cluster_resources)
    )
    if free < 1:
        raise DataError(
            f"computing a Ray dataset takes a CPU, and {free:g} of {every:g} are free, which this "
            "worker may hold itself: call RayDataSource.of before the training, and give it to the "
            "data's factory as an argument"
        )


def _length_and_schema(block: pa.Table) -> tuple[int, pa.Schema]:
    return block.num_rows, block.schema


def _common_fields(schemas: Sequence[pa.Schema], columns: Sequence[Names]) -> list[Field]:
    """What the columns are in all blocks together, of which each file of a CSV has types of its
    own."""
    distinct: list[pa.Schema] = []
    for schema in schemas:
        if schema not in distinct:
            distinct.append(schema)
    found = [fields_of(columns_of(_plain(no_rows(schema)), columns)) for schema in distinct]
    common = []
    for names, fields in zip(columns, zip(*found, strict=True), strict=True):
        shapes = sorted({field.shape for field in fields})
        if len(shapes) > 1:
            told = " and ".join(str(list(shape)) for shape in shapes)
            raise DataError(f"column '{names}' has rows of {told}; make them of one shape")
        common.append(Field(np.result_type(*(field.dtype for field in fields)), shapes[0]))
    return common


def _plain(table: pa.Table) -> pa.Table:
    """The same rows with Arrow's tensors for Ray's, of which nobody else knows."""
    from ray.data.extensions import ArrowTensorType, ArrowTensorTypeV2

    for place, field in enumerate(table.schema):
        column, kind = table.column(place), field.type
        if isinstance(kind, ArrowTensorType | ArrowTensorTypeV2) and not column.null_count:
            numbers = column.combine_chunks().to_numpy(zero_copy_only=False).reshape(-1)
            each = kind.storage_type.value_type
            flat = pa.array(numbers, each)
            rows = pa.FixedSizeListArray.from_arrays(flat, math.prod(kind.shape))
            tensor = pa.fixed_shape_tensor(each, kind.shape)
            tensors = pa.ExtensionArray.from_storage(tensor, rows)
            table = table.set_column(place, field.name, tensors)
    return table
