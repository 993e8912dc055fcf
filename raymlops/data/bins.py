"""Cells in which values are counted: quantile bins of numbers, names of categories.

Counts are integers, so those of any number of workers add up to those of one pass, bit for bit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raymlops.data.features import Column, Feature

Counts = NDArray[np.int64]
"""Rows by cell, [num_cells]; counts of disjoint windows add up to that of their union."""

_MAX_BINS = 256
_MAX_CATEGORIES = 512
_BLOCK_ROWS = 1 << 16  # 256 KB of float32, which fits the second level of most caches
_MIN_ROUNDED = 1 << 13  # fewer are sorted in full sooner than looked at twice
_MAX_HIDDEN = 8  # bounds looked at again one by one; more take longer than sorting in full


@dataclass(frozen=True, kw_only=True)
class NumberBins:
    """Quantile bins [e_i, e_i+1) with unique edges, then a cell for missing values.

        (-inf, e_0)  [e_0, e_1)  ...  [e_k, inf)  missing

    Values are counted by sorting them, a block at a time, and looking the edges up in the sorted
    block: numpy sorts in vectors, 4 ns a value of single precision, where a binary search of each
    value among the edges takes 100. Rounding keeps the order, so it can only hide on which side of
    an edge a value lies that rounds to the same number; those are looked at again in full. The
    result is that of the search, also for ties and infinities.
    """

    name: str
    edges: tuple[float, ...]

    @property
    def num_cells(self) -> int:
        return len(self.edges) + 2

    def count(self, column: Column) -> Counts:
        if len(column) < _MIN_ROUNDED:
            values = np.sort(np.asarray(column, dtype=np.float64))
            below = values.searchsorted(self._bounds)
        else:
            below = self._below_in_blocks(column)
        counts = np.empty(self.num_cells, dtype=np.int64)
        counts[0], counts[-1] = below[0], len(column) - below[-1]
        np.subtract(below[1:], below[:-1], out=counts[1:-1])
        return counts

    def _below_in_blocks(self, column: Column) -> NDArray[np.int64]:
        """How many values lie below each bound."""
        below = np.zeros(len(self._bounds), dtype=np.int64)
        buffer = np.empty(min(_BLOCK_ROWS, len(column)), dtype=np.float32)
        rounded = True
        for start in range(0, len(column), _BLOCK_ROWS):
            block = np.asarray(column[start : start + _BLOCK_ROWS], dtype=np.float64)
            found = self._below_rounded(block, buffer[: len(block)]) if rounded else None
            if found is None:
                rounded = False  # what is tied or heavy-tailed here is so in the next block
                found = np.searchsorted(np.sort(block), self._bounds)
            below += found
        return below

    def _below_rounded(
        self, block: NDArray[np.float64], buffer: NDArray[np.float32]
    ) -> NDArray[np.int64] | None:
        """The same of one block; None where rounding hides it for many bounds."""
        bounds = self._rounded_bounds
        with np.errstate(over="ignore"):  # to infinity, which is still in order
            np.copyto(buffer, block, casting="same_kind")
        buffer.sort()
        below = np.searchsorted(buffer, bounds)
        hidden = np.flatnonzero(buffer[np.minimum(below, len(buffer) - 1)] == bounds)
        if len(hidden) > _MAX_HIDDEN:
            return None
        for bound in hidden:
            below[bound] = np.count_nonzero(block < self._bounds[bound])
        return below

    @cached_property
    def _bounds(self) -> NDArray[np.float64]:
        """The edges and NaN, which sorts behind every number."""
        return np.array([*self.edges, np.nan])

    @cached_property
    def _rounded_bounds(self) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            return self._bounds.astype(np.float32)

    def cells_of(self, column: Column) -> NDArray[np.int64]:
        """In which cell each value lies, [rows]."""
        values = np.asarray(column, dtype=np.float64)
        cells = np.searchsorted(self.edges, values, side="right")
        return np.where(np.isnan(values), self.num_cells - 1, cells)


@dataclass(frozen=True, kw_only=True)
class CategoryBins:
    """A cell for each known category, then one for other and one for missing values."""

    name: str
    categories: tuple[str, ...]

    @property
    def num_cells(self) -> int:
        return len(self.categories) + 2

    def count(self, column: Column) -> Counts:
        other, missing = len(self.categories), len(self.categories) + 1
        counts = np.zeros(self.num_cells, dtype=np.int64)
        for value, count in Counter(column.tolist()).items():
            cell = missing if _is_missing(value) else self._cell_of.get(value, other)
            counts[cell] += count
        return counts

    def cells_of(self, column: Column) -> NDArray[np.int64]:
        """In which cell each value lies, [rows]."""
        other, missing = len(self.categories), len(self.categories) + 1
        return np.array(
            [
                missing if _is_missing(value) else self._cell_of.get(value, other)
                for value in column.tolist()
            ],
            dtype=np.int64,
        )

    @cached_property
    def _cell_of(self) -> dict[str, int]:
        return {name: cell for cell, name in enumerate(self.categories)}


Bins = NumberBins | CategoryBins


def bins_of(feature: Feature, column: Column) -> Bins:
    """The bins in which a reference `column` [rows] and whatever is held against it are counted."""
    if feature.kind == "number":
        return quantile_bins(feature.name, np.asarray(column, dtype=np.float64))
    counted = Counter(value for value in column.tolist() if not _is_missing(value))
    frequent = sorted(counted, key=lambda value: (-counted[value], str(value)))
    return CategoryBins(name=feature.name, categories=tuple(map(str, frequent[:_MAX_CATEGORIES])))


def quantile_bins(name: str, values: NDArray[np.float64]) -> NumberBins:
    """At most 256 bins that hold equal shares of `values` [rows], ties permitting."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return NumberBins(name=name, edges=())
    quantiles = np.quantile(known, np.arange(1, _MAX_BINS) / _MAX_BINS, method="inverted_cdf")
    # What lies above all that was seen has a cell of its own; a constant could rise unnoticed.
    with np.errstate(over="ignore"):  # above the largest float there is infinity, rightly
        edges = np.unique([*quantiles, np.nextafter(known.max(), np.inf)])
    return NumberBins(name=name, edges=tuple(edges.tolist()))


def _is_missing(value: object) -> bool:
    return value is None or value != value  # NaN, the missing value of pandas' older texts
