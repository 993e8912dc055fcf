"""The shape a tensor claims, held against that of its field."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from raymlops.errors import SignatureError
from raymlops.models import Field


class Shape(NamedTuple):
    """`given` by the tensor; `of_column` is that of the column it becomes."""

    given: tuple[int, ...]
    of_column: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.given)

    def place(self, index: int) -> str:
        """Where the value at `index` of the flat data is."""
        row, *rest = (int(at) for at in np.unravel_index(index, self.of_column))
        return f"row {row} at {rest}" if rest else f"row {row}"


def read_shape(field: Field, shape: Any) -> Shape:
    """`shape` as [rows, *field.shape], or [rows, 1] where a row has one value.

    Raises:
        SignatureError: it is neither, or there are no rows.
    """
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise SignatureError(field.name, "its shape is no list of whole numbers")
    rest = tuple(shape[1:])
    if not shape or not (field.takes(rest) or (not field.shape and rest == (1,))):
        wanted = _named("rows", *field.shape)
        also = "" if field.shape else " nor [rows, 1]"
        neither = "not" if field.shape else "neither"
        found = list(map(_short, shape[:8]))
        raise SignatureError(
            field.name, f"its shape is {neither} {wanted}{also}, but {_named(*found)}"
        )
    if shape[0] < 1:
        raise SignatureError(field.name, "has no rows")
    return Shape(tuple(shape), (shape[0], *rest) if field.shape else (shape[0],))


def _named(*sizes: object) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _short(size: int) -> str:
    return str(size) if abs(size) < 2**63 else "a huge number"
