"""What models and datasets may be called: what NAME@VERSION, a URL and a file can hold."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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
