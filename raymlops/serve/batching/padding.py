"""Rows of several lengths in one batch: padded to one of a few lengths, and cut back after.

Few lengths, since an engine prepares itself anew for each shape it sees; several, since what is
added is computed for nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from raymlops.data import Column, Columns
from raymlops.errors import RequestError
from raymlops.serve.batching.outputs import Outputs


def length_of(columns: Columns) -> int:
    """Positions in a row: the most of any column [rows, positions, ...]; 0 where there is none."""
    return max((column.shape[1] for column in columns.values() if column.ndim > 1), default=0)


def padded_length(length: int, lengths: Sequence[int]) -> int:
    """The least of `lengths`, which rise, that rows of that length fit in.

    Raises:
        RequestError: 413 when there is none.
    """
    index = bisect_left(lengths, length)
    if index == len(lengths):
        raise RequestError(413, f"a row has {length} positions, at most {lengths[-1]} are taken")
    return lengths[index]


def padded(columns: Columns, length: int, value: float) -> dict[str, Column]:
    """Columns [rows, positions, ...] with `value` behind, up to that length; texts with ''."""
    return {name: _padded(column, length, value) for name, column in columns.items()}


def _padded(column: Column, length: int, value: float) -> Column:
    if column.ndim < 2 or column.shape[1] == length:
        return column
    shape = (len(column), length, *column.shape[2:])
    longer = np.full(shape, "" if column.dtype == object else value, dtype=column.dtype)
    longer[:, : column.shape[1]] = column
    return longer


def cut(outputs: Outputs, length: int, names: Iterable[str]) -> Outputs:
    """The outputs, those of `names` [rows, positions, ...] without what padding added."""
    return {**outputs} | {name: outputs[name][:, :length] for name in names if name in outputs}
