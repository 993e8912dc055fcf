"""What a value weighs, and values nobody can change."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

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
    copied: T = _copied(value)
    return copied


def _copied(value: Any) -> Any:
    match value:
        case np.ndarray():
            copied = value.copy()
            copied.flags.writeable = False
            return copied
        case Mapping():
            return {key: _copied(each) for key, each in value.items()}
        case list():
            return [_copied(each) for each in value]
        case tuple():
            parts = map(_copied, value)
            return value._make(parts) if hasattr(value, "_make") else tuple(parts)
        case _:
            return value
