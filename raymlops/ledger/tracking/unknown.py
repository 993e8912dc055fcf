"""Names in a search that no run has: mistyped, or not logged yet."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from raymlops.ledger.tracking.search import Field

_NUM_SHOWN = 8


@dataclass(frozen=True)
class UnknownField:
    """A field of no run, and the names that its group has."""

    field: Field
    known: tuple[str, ...]

    def __str__(self) -> str:
        there_are = likest_first(self.field.name, self.known)
        return f"no run has {self.field}; {self.field.group} there are: {there_are}"


def likest_first(name: str, known: Sequence[str]) -> str:
    """What there is instead of `name`, for people."""
    names = _likest_first(name, known)
    others = len(names) - _NUM_SHOWN
    return ", ".join(names[:_NUM_SHOWN]) + (f" and {others} more" if others > 0 else "") or "none"


def _likest_first(name: str, known: Sequence[str]) -> list[str]:
    near = difflib.get_close_matches(name, known, n=len(known) or 1, cutoff=0.5)
    return [*near, *(each for each in known if each not in near)]
