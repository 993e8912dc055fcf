"""What a value weighs, and values nobody can change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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


def kept(value: T) -> T:
    """The value for many readers: its arrays are copies, and read-only; its mappings are dicts.

    Copies, since others may write to what it came from, and a slice would keep its whole batch
    alive.
    """
    copied: T = _rebuilt(value, _frozen)
    return copied


def lent(value: T) -> T:
    """What is kept, for one reader, who may change its lists, sets and dicts; arrays are shared."""
    copied: T = _rebuilt(value, lambda array: array)
    return copied


def _rebuilt(value: Any, array: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """The value in new containers, each of its arrays as `array` gives it."""
    match value:
        case np.ndarray():
            return array(value)
        case Mapping():
            return {key: _rebuilt(each, array) for key, each in value.items()}
        case list():
            return [_rebuilt(each, array) for each in value]
        case tuple():
            parts = [_rebuilt(each, array) for each in value]
            return value._make(parts) if hasattr(value, "_make") else tuple(parts)
        case set():
            return set(value)
        case _:
            return value


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copied = array.copy()
    copied.flags.writeable = False
    return copied
