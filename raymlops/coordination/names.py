"""Names of locks, keys and candidates as one segment of a path."""

from __future__ import annotations

import urllib.parse

MAX_LENGTH = 200


def segment(name: str) -> str:
    """`name` as a file or node name that no other name shares and that cannot leave its folder.

    Raises:
        ValueError: the name is empty or longer than a file name can be.
    """
    quoted = urllib.parse.quote(name, safe=" ")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if not 0 < len(quoted) <= MAX_LENGTH:
        raise ValueError(
            f"the name {name!r} takes {len(quoted)} characters; it must take 1 to {MAX_LENGTH}"
        )
    return quoted


def name_of(segment: str) -> str:
    """The name that `segment` was made from."""
    return urllib.parse.unquote(segment)
