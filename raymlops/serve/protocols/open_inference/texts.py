"""Texts in binary tensors: each a little-endian uint32 with its length, then its UTF-8 bytes."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any

from raymlops.errors import SignatureError

_LENGTH = Struct("<I")


def read_texts(name: str, data: memoryview, count: int) -> list[str]:
    """The `count` texts in `data`.

    Raises:
        SignatureError: their lengths do not add up to the data's, or one is not UTF-8.
    """
    if count * _LENGTH.size > len(data):  # before a list of that many is made
        raise SignatureError(name, f"its {len(data)} bytes cannot hold {count} texts")
    texts: list[str] = []
    at = 0
    for row in range(count):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(data, at)[0] if start <= len(data) else start
        if at > len(data):
            raise SignatureError(name, f"text {row} ends {at - len(data)} bytes after the data")
        try:
            texts.append(str(data[start:at], "utf-8"))
        except UnicodeDecodeError as error:
            raise SignatureError(name, f"text {row} is not UTF-8: {error.reason}") from error
    if at != len(data):
        raise SignatureError(name, f"{len(data) - at} bytes follow its {count} texts")
    return texts


def write_texts(values: Iterable[Any]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        text = value if isinstance(value, bytes) else str(value).encode()
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)
