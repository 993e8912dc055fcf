"""Tensors in a table: columns of lists, however deep, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raymlops.data.rules.base import is_number
from raymlops.errors import DataError

FREE = -1
"""The size of an axis along which rows differ."""

_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def is_list(kind: pa.DataType) -> bool:
    """Whether a row of such a column is a list of any kind."""
    return any(test(kind) for test in _LISTS)


def is_tensor(kind: pa.DataType) -> bool:
    """Whether each row of such a column is a tensor of numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return True
    while is_list(kind):
        kind = kind.value_type
        if is_number(kind):
            return True
    return False


def read_tensors(column: pa.ChunkedArray, *, name: str) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The column as [rows, *sizes], and the shape of a row.

    Whole numbers keep their type, others are float32. Rows of whole numbers may be lists of several
    lengths, as tokens of texts are: those that are shorter have zeros behind, and the shape of a
    row is [FREE].

    Raises:
        DataError: the column holds no tensors of one shape, or lacks values.
    """
    if not is_tensor(column.type):
        raise DataError(f"column '{name}' has type {column.type}, not lists of numbers")
    values = column.combine_chunks()
    if isinstance(column.type, pa.FixedShapeTensorType):
        _refuse_missing(values, name)
        flat, shape = numbers_of(values, name=name), tuple(values.type.shape)
        _refuse_missing(flat, name)
        return _plain(flat.to_numpy(zero_copy_only=False)).reshape(-1, *shape), shape
    sizes = [len(column)]
    while is_list(values.type):
        _refuse_missing(values, name)
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) > 1 and len(sizes) == 1 and pa.types.is_integer(values.type.value_type):
            return _padded(values, name), (FREE,)
        if len(lengths) != 1 or not lengths[0]:
            raise DataError(
                f"column '{name}' has lists of {min(lengths, default=0)} to "
                f"{max(lengths, default=0)} values; they are all of one length, or rows of whole "
                "numbers, as tokens are"
            )
        sizes.append(lengths[0])
        values = values.flatten()
    _refuse_missing(values, name)
    return _plain(values.to_numpy(zero_copy_only=False)).reshape(sizes), tuple(sizes[1:])


def of_shape(column: pa.ChunkedArray, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which rows are tensors of that shape and lack nothing."""
    values = column.combine_chunks()
    if isinstance(column.type, pa.FixedShapeTensorType):
        values, shape = values.storage, (int(np.prod(shape)),)
    fits = np.ones(len(values), np.bool_)
    rows = np.arange(len(values))  # that each of the values is of
    for size in shape:
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        fits[rows[lengths != size if size != FREE else lengths == 0]] = False
        rows = np.repeat(rows, lengths)
        values = values.filter(values.is_valid()).flatten()
        fits[rows[np.asarray(values.is_null())]] = False
    return fits


def no_rows(schema: pa.Schema) -> pa.Table:
    """The columns alone, also of tensors of numpy's, of which Arrow's `empty_table` makes none."""
    return pa.table([_none_of(kind) for kind in schema.types], schema=schema)


def _none_of(kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array([], kind.storage_type))
    return pa.array([], kind)


def numbers_of(values: pa.ExtensionArray, *, name: str) -> pa.Array:
    """Those of Arrow's tensors, one row after the other.

    Raises:
        DataError: they do not lie as they are read: of such pyarrow 26 writes an order that it
            reads as the inverse one, and of an axis that numpy's None made none at all.
    """
    order = values.type.permutation
    if order is not None and list(order) != sorted(order):
        raise DataError(
            f"column '{name}' holds tensors whose axes lie in the order {list(order)}; make it of "
            "a .copy() of the array, whose axes lie as they are read"
        )
    return values.storage.flatten()


def _padded(rows: pa.Array, name: str) -> NDArray[Any]:
    """Lists of several lengths as [rows, longest], zeros behind the shorter."""
    flat = rows.flatten()
    _refuse_missing(flat, name)
    lengths = pc.list_value_length(rows).to_numpy(zero_copy_only=False)
    values = flat.to_numpy(zero_copy_only=False)
    padded = np.zeros((len(rows), int(lengths.max())), values.dtype)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = values
    return padded


def _refuse_missing(values: pa.Array, name: str) -> None:
    if missing := values.null_count:
        raise DataError(f"column '{name}' lacks {missing} values; leave these rows out")


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.dtype.kind in "iu" else values.astype(np.float32)
