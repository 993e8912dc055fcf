"""What models and datasets may be called: what NAME@VERSION, a URL and a file can hold."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST = 180
"""Locks, actors and files have a word before it, and at most 200 or 255 characters."""


def check_name(name: str, *, of: str) -> None:
    """Returns quietly where the name of that kind of thing can be asked for.

    Raises:
        ValueError: it could be registered, and neither deployed nor named afterwards.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{of} '{name}' cannot be part of a URL, nor of NAME@VERSION: use letters, digits, "
            "_ . -, and begin with a letter or digit"
        )
    if len(name) > _LONGEST:
        raise ValueError(
            f"{of} '{name[:20]}...' has {len(name)} characters, and would be too long for the "
            f"names of its lock and files: at most {_LONGEST} are taken"
        )
