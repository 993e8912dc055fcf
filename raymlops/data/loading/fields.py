"""What a column of rows is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Field:
    """A column of `dtype`, `shape` of it a row."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def fields_of(columns: Iterable[NDArray[Any]]) -> tuple[Field, ...]:
    """What these arrays hold, [rows, ...] each."""
    return tuple(Field(column.dtype, tuple(column.shape[1:])) for column in columns)
