"""What a training loop reads: rows by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading.fields import Field, fields_of

Columns: TypeAlias = tuple[NDArray[Any], ...]
"""Arrays of one length: the inputs of a model in its order, and last the targets."""


class Source(Protocol):
    """Rows of fixed shapes and dtypes, found by number; several threads may ask at once."""

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """The rows of these numbers, in this order; copies, [len(rows), ...] each.

        Raises:
            IndexError: a number is negative, or not below the number of rows.
        """
        ...


@runtime_checkable
class FillingSource(Source, Protocol):
    """A source that can write rows where they are wanted, without a copy in between."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """What its columns are."""
        ...

    def take_into(self, rows: NDArray[np.int64], into: Columns) -> None:
        """Writes what `take` returns into `into`, [len(rows), ...] each; raises as `take`."""
        ...


@runtime_checkable
class ChunkedSource(Source, Protocol):
    """A source whose rows are read a chunk at a time."""

    @property
    def rows_per_chunk(self) -> int:
        """How many rows lie together, but in the last chunk."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Rows of arrays in memory."""

    columns: Sequence[NDArray[Any]]

    def __post_init__(self) -> None:
        lengths = [len(column) for column in self.columns]
        if not lengths or len(set(lengths)) > 1:
            raise ValueError(f"the columns have {lengths} rows; give columns of one length")

    @property
    def fields(self) -> tuple[Field, ...]:
        return fields_of(self.columns)

    def __len__(self) -> int:
        return len(self.columns[0])

    def take(self, rows: NDArray[np.int64]) -> Columns:
        check_rows(rows, len(self))
        return tuple(column[rows] for column in self.columns)

    def take_into(self, rows: NDArray[np.int64], into: Columns) -> None:
        check_rows(rows, len(self))
        gather(self.columns, rows, into)


def check_rows(rows: NDArray[np.int64], num_rows: int) -> None:
    """Raises IndexError where a number is negative, or not below `num_rows`."""
    if rows.size and (rows.min() < 0 or rows.max() >= num_rows):
        raise IndexError(f"rows {rows.min()} to {rows.max()} were asked for, of {num_rows}")


def gather(columns: Sequence[NDArray[Any]], rows: NDArray[np.int64], into: Columns) -> None:
    """Writes rows, whose numbers were checked, into `into`."""
    for column, target in zip(columns, into, strict=True):
        # Modes other than "raise" write straight into `out`, where that one writes a copy first.
        np.take(column, rows, axis=0, out=target, mode="clip")
