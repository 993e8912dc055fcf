"""Rows of several lengths in one batch: padded to one of a few lengths, and cut back after.

Few lengths, since an engine prepares itself anew for each shape it sees; several, since what is
added is computed for nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Column, Columns
from raymlops.errors import ModelError, RequestError
from raymlops.serve.batching.outputs import Outputs
from raymlops.serve.batching.policy import BatchPolicy
from raymlops.serve.batching.queue import Done


def padding_only(policy: BatchPolicy, free: tuple[str, ...]) -> BatchPolicy:
    """`policy` for a model whose columns `free` alone have rows of several lengths: unless it names
    others, these are padded, and where there are none, nothing is."""
    if not policy.lengths or policy.pad_columns:
        return policy
    if free:
        return replace(policy, pad_columns=free)
    return replace(policy, lengths=(), max_tokens=None, cut_outputs=())


def pad_request(columns: Columns, done: Done, policy: BatchPolicy) -> tuple[Columns, Done, int]:
    """The request as others of its length can share a batch with it, and that length; `done` is
    told the outputs without what was added.

    Raises:
        RequestError: 413 when a row is longer than all `policy.lengths`.
        ModelError: `policy.pad_columns` names what is no column of several positions.
    """
    short = with_positions(columns, policy.pad_columns)
    length = length_of(short)
    full = padded_length(length, policy.lengths)

    def done_cut(result: Outputs | Exception) -> None:
        if not isinstance(result, Exception):
            try:
                result = cut(result, length, policy.cut_outputs)
            except ModelError as error:
                result = error
        done(result)

    return {**columns, **padded(short, full, policy.pad_value)}, done_cut, full


def with_positions(columns: Columns, names: Sequence[str]) -> dict[str, Column]:
    """The columns [rows, positions, ...]: those of `names`, or all of such a shape.

    Raises:
        ModelError: one of `names` is no such column.
    """
    found = {name: column for name, column in columns.items() if column.ndim > 1}
    if not names:
        return found
    if unknown := [name for name in names if name not in found]:
        raise ModelError(
            f"pad_columns names {', '.join(unknown)}; columns of several positions a row are "
            f"{', '.join(found) or 'none'}"
        )
    return {name: found[name] for name in names}


def length_of(columns: Columns) -> int:
    """Positions in a row: the most of any of these columns; 0 where there is none."""
    return max((column.shape[1] for column in columns.values()), default=0)


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
    """These columns with `value` behind, up to that length; texts with ''."""
    return {name: _padded(column, length, value) for name, column in columns.items()}


def _padded(column: Column, length: int, value: float) -> Column:
    if column.shape[1] == length:
        return column
    shape = (len(column), length, *column.shape[2:])
    longer = np.full(shape, "" if column.dtype == object else value, dtype=column.dtype)
    longer[:, : column.shape[1]] = column
    return longer


def cut(outputs: Outputs, length: int, names: Iterable[str]) -> Outputs:
    """The outputs, those of `names` [rows, positions, ...] without what padding added.

    Raises:
        ModelError: there is no such output, or it has no positions.
    """
    return {**outputs} | {name: _output(outputs, name)[:, :length] for name in names}


def _output(outputs: Outputs, name: str) -> NDArray[Any]:
    if name not in outputs:
        raise ModelError(f"cut_outputs names '{name}'; the outputs are {', '.join(outputs)}")
    if outputs[name].ndim < 2:
        raise ModelError(f"cut_outputs names '{name}', which has one value a row: leave it out")
    return outputs[name]
