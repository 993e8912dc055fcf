"""What a training loop reads: rows by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Columns: TypeAlias = tuple[NDArray[Any], ...]
"""Arrays of one length: the inputs of a model in its order, and last the targets."""


class Source(Protocol):
    """Rows of fixed shapes and dtypes, found by number."""

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """The rows of these numbers, in this order; copies, [len(rows), ...] each.

        Raises:
            IndexError: a number is negative, or not below the number of rows.
        """
        ...


@dataclass(frozen=True)
class ArraySource:
    """Rows of arrays in memory."""

    columns: Sequence[NDArray[Any]]

    def __post_init__(self) -> None:
        lengths = [len(column) for column in self.columns]
        if not lengths or len(set(lengths)) > 1:
            raise ValueError(f"the columns have {lengths} rows; give columns of one length")

    def __len__(self) -> int:
        return len(self.columns[0])

    def take(self, rows: NDArray[np.int64]) -> Columns:
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} were asked for, of {len(self)}")
        return tuple(column[rows] for column in self.columns)
