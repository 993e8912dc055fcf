"""Columns that lie together: those of one kind are the rows of one matrix, made when looked at.

    request   [5.1, 3.5, None] ["UA", "JFK"]      lists, as they came
    batch     [3 numbers, rows] [2 texts, rows]   two arrays for all its requests

Nobody looks at a request of one row alone: what runs is a batch, what is counted a thousand
requests. An array for each of its values would cost more than all that is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.features import Column

Values = Sequence[Any] | NDArray[Any]
"""Column after column: a matrix [columns, rows], or all of it in one flat list or tuple."""


class Layout:
    """Which columns lie together: names of each group, with the dtype of their matrix."""

    def __init__(self, groups: Sequence[tuple[tuple[str, ...], np.dtype[Any]]]) -> None:
        self.dtypes = tuple(dtype for _, dtype in groups)
        self.place = {
            name: (group, row)
            for group, (names, _) in enumerate(groups)
            for row, name in enumerate(names)
        }
        self.group = {names: group for group, (names, _) in enumerate(groups)}


class GroupedColumns(Mapping[str, Column]):
    """`values` of each group of `layout`, of `num_rows` rows; a list is kept, and changed."""

    __slots__ = ("_values", "layout", "num_rows")

    def __init__(self, layout: Layout, values: list[Values], num_rows: int) -> None:
        self.layout = layout
        self.num_rows = num_rows
        self._values = values

    def __getitem__(self, name: str) -> Column:
        group, row = self.layout.place[name]
        column: Column = self._matrix(group)[row]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.place)

    def __len__(self) -> int:
        return len(self.layout.place)

    def matrix(self, names: tuple[str, ...]) -> NDArray[Any] | None:
        """[names, rows], where just these are a group."""
        group = self.layout.group.get(names)
        return None if group is None else self._matrix(group)

    def rows(self, start: int, end: int) -> GroupedColumns:
        """Some of the rows, which still lie in the same arrays."""
        groups = range(len(self.layout.dtypes))
        values: list[Values] = [self._matrix(group)[:, start:end] for group in groups]
        return GroupedColumns(self.layout, values, end - start)

    @classmethod
    def joined(cls, parts: Sequence[GroupedColumns]) -> GroupedColumns:
        """The rows of all parts, which share one layout."""
        layout, num_rows = parts[0].layout, sum([part.num_rows for part in parts])
        joined: list[Values] = [
            _joined(parts, group, num_rows) for group in range(len(layout.dtypes))
        ]
        return cls(layout, joined, num_rows)

    def _matrix(self, group: int) -> NDArray[Any]:
        values = self._values[group]
        if not isinstance(values, np.ndarray):
            array = np.array(values, self.layout.dtypes[group])
            values = self._values[group] = array.reshape(-1, self.num_rows)
        return values


def _joined(parts: Sequence[GroupedColumns], group: int, num_rows: int) -> NDArray[Any]:
    """[columns, rows] of all parts; rows that are still lists become one array at once."""
    rows = [part._values[group] for part in parts]
    if num_rows == len(parts) and np.ndarray not in set(map(type, rows)):  # one each
        return _stacked(rows, parts[0].layout.dtypes[group]).T
    return np.concatenate([part._matrix(group) for part in parts], axis=1)


def _stacked(rows: Sequence[Values], dtype: np.dtype[Any]) -> NDArray[Any]:
    """[rows, columns]; numbers one after the other take numpy two thirds of the time of lists."""
    num_values = len(rows) * len(rows[0])
    try:
        return np.fromiter(chain.from_iterable(rows), dtype, num_values).reshape(len(rows), -1)
    except TypeError:  # a missing number, which `array` takes for NaN
        return np.array(rows, dtype)


def num_rows(columns: Mapping[str, Column]) -> int:
    """How many rows all columns have."""
    if isinstance(columns, GroupedColumns):
        return columns.num_rows
    return len(next(iter(columns.values())))
