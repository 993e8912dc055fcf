"""What a spec written in Python is held to as one in YAML is by its reader, and names in it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral
from typing import get_args


def require_choice(name: str, value: object, choices: object) -> None:
    """Raises ValueError unless `value` is one of a Literal's."""
    *others, last = get_args(choices)
    if value not in (*others, last):
        raise ValueError(f"{name} is {value!r}; it is {', '.join(others)} or {last}")


def require_counts(spec: object, *names: str) -> None:
    """Raises ValueError unless each of these fields is a whole number from 1, or None."""
    values = {name: getattr(spec, name) for name in names}
    wrong = {n: v for n, v in values.items() if v is not None and not _is_count(v)}
    if wrong:
        told = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise ValueError(f"{told}; each is at least 1, and whole")


def require_positive(name: str, value: float, otherwise: str = "") -> None:
    """Raises ValueError unless `value` is; neither is what is no number, or infinite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; it is positive and finite{otherwise}")


def require_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises ValueError unless something of that name is among the known."""
    if name not in known:
        raise ValueError(
            f"there is no {kind} '{name}'; known: {', '.join(known)}, or one of your own as "
            "module:function"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 1  # numpy's are, too
