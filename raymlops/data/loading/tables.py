"""Tables as rows of fixed shapes: numbers a name, matrices a group of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data.datasets import open_dataset
from raymlops.data.loading.source import Columns
from raymlops.data.loading.writing import write_blocks
from raymlops.data.tensors import no_rows, numbers_of
from raymlops.errors import DataError
from raymlops.ledger import Dataset
from raymlops.storage import Store

Names: TypeAlias = str | Sequence[str]
"""A column [rows] as it is, of lists of fixed sizes or of Arrow's tensors [rows, ...]; or the
columns of a float32 matrix [rows, names]."""

_BATCH_ROWS = 1 << 16


def write_table(
    path: str | Path,
    table: pa.Table,
    columns: Sequence[Names],
    *,
    rows_per_chunk: int | None = None,
) -> None:
    """The file of a table's rows, as `columns` say; see `write_blocks`.

    Raises:
        DataError: a column is missing, is not of numbers, or misses values.
    """
    batches = table.to_batches(max_chunksize=_BATCH_ROWS)
    blocks = _blocks(table.schema, batches, columns)
    write_blocks(path, blocks, num_rows=table.num_rows, rows_per_chunk=rows_per_chunk)


def write_dataset(
    path: str | Path,
    store: Store,
    dataset: Dataset,
    columns: Sequence[Names],
    *,
    rows_per_chunk: int | None = None,
) -> None:
    """The file of a dataset version's rows, read in bounded memory; raises as `write_table`."""
    rows = open_dataset(store, dataset)
    groups = [[names] if isinstance(names, str) else names for names in columns]
    wanted = list(dict.fromkeys(chain.from_iterable(groups)))
    blocks = _blocks(rows.schema, rows.batches(wanted), columns)
    write_blocks(path, blocks, num_rows=dataset.num_rows, rows_per_chunk=rows_per_chunk)


def columns_of(rows: pa.RecordBatch | pa.Table, columns: Sequence[Names]) -> Columns:
    """The arrays that `columns` name.

    Raises:
        DataError: a column is missing, is not of numbers, or misses values.
    """
    return tuple(
        _array(rows, names)
        if isinstance(names, str)
        else np.stack([_array(rows, name) for name in names], axis=1, dtype=np.float32)
        for names in columns
    )


def _blocks(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], columns: Sequence[Names]
) -> Iterable[Columns]:
    """A block a batch; before them an empty one, which says what the columns are."""
    return (columns_of(rows, columns) for rows in chain([no_rows(schema)], batches))


def _array(rows: pa.RecordBatch | pa.Table, name: str) -> NDArray[Any]:
    if name not in rows.schema.names:
        raise DataError(f"column '{name}' is missing; there are {', '.join(rows.schema.names)}")
    column = rows.column(name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = array.type
    shape: tuple[int, ...] = (len(array),)
    if array.null_count == 0 and isinstance(kind, pa.FixedShapeTensorType):
        shape, array = (len(array), *kind.shape), numbers_of(array, name=name)
    while array.null_count == 0 and pa.types.is_fixed_size_list(array.type):
        shape, array = (*shape, array.type.list_size), array.flatten()
    missing = "all" if pa.types.is_null(array.type) else array.null_count
    if missing:
        raise DataError(f"column '{name}' misses {missing} values; fill or drop them")
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)) and (
        not pa.types.is_boolean(array.type)
    ):
        raise DataError(f"column '{name}' has type {kind}, not numbers; encode it first")
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values.reshape(shape)
