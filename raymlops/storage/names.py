"""What a file in a store may be called: names that cannot lead out of it, on any backend."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from raymlops.errors import MissingFileError, StorageError

# Half-written files wait here, below the root of a store, until they are renamed into place.
STAGING = ".staging"


def checked_name(name: str) -> str:
    """`name` in its only spelling.

    Raises:
        StorageError: it is empty, absolute, leads upwards, or means different files to different
            systems.
    """
    if problem := _problem(name):
        raise StorageError(
            f"{name!r} is no name inside a store: {problem}; use a relative path such as"
            " 'models/flights.onnx'"
        )
    return str(PurePosixPath(name))


def checked_digest(digest: str) -> str:
    """Raises MissingFileError unless `digest` is one of SHA-256, and so the name of a file."""
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        raise MissingFileError(f"there is no blob '{digest}'; a digest is 64 hexadecimal digits")
    return digest


def _problem(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    if not parts:
        return "it is empty"
    if name.startswith("/"):
        return "it is absolute"
    if ".." in parts:
        return "it leads upwards"
    if "\\" in name:
        return "a backslash separates folders on some systems"
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "it holds a control character"
    if len(parts[0]) > 1 and parts[0][1] == ":":
        return "it begins with a drive letter"
    if parts[0] == STAGING:
        return f"{STAGING} holds what is still being written"
    return None
