"""The columns a model reads, and their values as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.errors import DataError

Column = NDArray[np.float64] | NDArray[np.object_]
Columns = Mapping[str, Column]
"""Columns by name, all of one length: numbers as float64 with NaN where missing, categories as
objects (`str`, or None where missing)."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column known before the outcome; `low` and `high` bound numbers, both inclusive."""

    name: str
    kind: Literal["number", "category"]
    max_missing: float = 0.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_missing <= 1.0:
            raise ValueError(f"{self.name}: max_missing is {self.max_missing}, not within 0 and 1")
        if self.kind == "category" and (self.low is not None or self.high is not None):
            raise ValueError(f"{self.name} is a category; low and high are for numbers")
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= high:
            raise ValueError(f"{self.name}: low {low} is above high {high}, or one is no number")

    @property
    def nullable(self) -> bool:
        return self.max_missing > 0


def read_columns(table: pa.Table, features: tuple[Feature, ...]) -> dict[str, Column]:
    """The features' columns of an Arrow table.

    Raises:
        DataError: a feature is missing from the table or has another type.
    """
    return {feature.name: _column(table, feature) for feature in features}


def as_floats(column: Any) -> Any:
    """The numbers of an Arrow column as float64; whole ones beyond 2**53 are the nearest there is.

    Raises:
        pyarrow.ArrowInvalid: they are no numbers.
    """
    return column.cast(pa.float64(), safe=False)


def take(
    columns: Columns, rows: NDArray[np.int64] | NDArray[np.bool_] | slice
) -> dict[str, Column]:
    """The chosen rows of every column."""
    return {name: column[rows] for name, column in columns.items()}


def _column(table: pa.Table, feature: Feature) -> Column:
    if feature.name not in table.column_names:
        raise DataError(
            f"column '{feature.name}' is missing; the table has {', '.join(table.column_names)}"
        )
    column = table[feature.name]
    try:
        if feature.kind == "number":
            return np.asarray(as_floats(column).fill_null(np.nan).to_numpy())
        return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), dtype=object)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column '{feature.name}' has type {column.type}, not {feature.kind}: {error}"
        ) from error
