"""Digests that two values share only when a model cannot tell them apart.

What is hashed is type, shape and bytes of everything, each with its length: a key of printed
text would take two long arrays, of which numpy prints three values at each end, for one.

Decided here: -0.0 is not 0.0 (a model may divide by it). NaN is NaN whatever its payload. 1, 1.0
and True are three values, a list and a tuple of the same are two. A mapping's order does not
count, a sequence's does. A masked array has no key: what lies under its mask would count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGEST_BYTES = 16

_Update = Callable[[bytes], object]


def digest_of(value: Any) -> bytes:
    """Sixteen bytes, the same in every process.

    Raises:
        TypeError: `value` holds something other than plain values, arrays, sequences, mappings
            and dataclasses of these.
    """
    hasher = blake2b(digest_size=_DIGEST_BYTES)
    _feed(hasher.update, value)
    return hasher.digest()


def digest_of_columns(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Like `digest_of`, for what a model takes; in whatever order the client named the columns."""
    hasher = blake2b(digest_size=_DIGEST_BYTES)
    for name in sorted(columns):
        _feed_text(hasher.update, name)
        _feed_array(hasher.update, columns[name])
    return hasher.digest()


def _feed(update: _Update, value: Any) -> None:
    match value:
        case np.ndarray() if not isinstance(value, np.ma.MaskedArray):
            update(b"a")
            _feed_array(update, value)
        case np.void():
            update(b"v")
            _feed_array(update, np.asarray(value))
        case None | bool() | int() | float() | complex() | np.generic():
            _feed_text(update, f"{type(value).__name__} {_printed(value)}")
        case str():
            update(b"s")
            _feed_text(update, value)
        case bytes() | bytearray() | memoryview():
            update(b"b%d:" % len(value))
            update(bytes(value))
        case list() | tuple():
            update(b"%b%d:" % (b"l" if isinstance(value, list) else b"t", len(value)))
            for each in value:
                _feed(update, each)
        case Mapping():
            _feed_mapping(update, value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            _feed_text(update, f"{type(value).__module__}.{type(value).__qualname__}")
            for field in dataclasses.fields(value):
                _feed(update, getattr(value, field.name))
        case _:
            raise TypeError(
                f"{type(value).__module__}.{type(value).__qualname__} has no canonical bytes; "
                "pass plain values, numpy arrays, sequences, mappings or dataclasses of these"
            )


def _feed_mapping(update: _Update, value: Mapping[Any, Any]) -> None:
    update(b"m%d:" % len(value))
    for key_digest, key in sorted((digest_of(key), key) for key in value):
        update(key_digest)
        _feed(update, value[key])


def _feed_text(update: _Update, text: str) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    update(b"%d:" % len(encoded))
    update(encoded)


def _feed_array(update: _Update, array: NDArray[Any]) -> None:
    if array.dtype.names is not None:  # by field: between them lies whatever was there before
        update(f"r{len(array.dtype.names)}{array.shape}:".encode())
        for name in array.dtype.names:
            _feed_text(update, name)
            _feed_array(update, array[name])
        return
    if array.dtype.kind not in "biufcSUmMV":
        update(f"O{array.shape}:".encode())
        for value in array.flat:
            _feed(update, value)
        return
    update(f"{array.dtype.str}{array.shape}:".encode())
    if array.dtype.kind in "fc":
        nan = np.isnan(array)
        if nan.any():
            array = np.where(nan, array.dtype.type(np.nan), array)
    update(array.tobytes())


def _printed(value: Any) -> str:
    """Exact, for single values: floats as hexadecimal, in which NaN is nan and -0.0 is signed."""
    if isinstance(value, float):
        return float(value).hex()
    return repr(value)
