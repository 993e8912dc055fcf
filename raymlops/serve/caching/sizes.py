"""What a value weighs, and values nobody can change."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def size_of(value: Any) -> int:
    """Bytes of a value and of what it holds."""
    match value:
        case np.ndarray() if value.dtype == object:
            return value.nbytes + sum(map(size_of, value.flat))
        case np.ndarray():
            return value.nbytes
        case Mapping():
            return sum(size_of(key) + size_of(each) for key, each in value.items())
        case list() | tuple() | set() | frozenset():
            return sys.getsizeof(value) + sum(map(size_of, value))
        case _:
            return sys.getsizeof(value)


def frozen(value: T) -> T:
    """The value with all its arrays read-only."""
    match value:
        case np.ndarray():
            value.flags.writeable = False
        case Mapping():
            for each in value.values():
                frozen(each)
        case list() | tuple():
            for each in value:
                frozen(each)
    return value


def kept(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs for many readers: copies, since a slice would keep its whole batch alive."""
    return frozen({name: values.copy() for name, values in outputs.items()})
