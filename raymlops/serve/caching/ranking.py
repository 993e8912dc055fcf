"""Which model is let go of first: Greedy-Dual-Size-Frequency (Cherkasova, 1998).

    score = age + uses * load_s / size_bytes

A model is worth what it would cost to load it again, for the room it takes, as often as it is
used. `age` is the score of the latest that went: whoever was popular once is overtaken in time.
A model that comes back brings half of its uses with it, and the least time that it ever took: a
busy machine makes any load look dear once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class _Ranked:
    cost: float
    uses: int
    score: float


class Ranking:
    """Names by how much is lost when they go."""

    def __init__(self) -> None:
        self._ranked: dict[str, _Ranked] = {}
        self._past: dict[str, _Ranked] = {}
        self._age = 0.0

    def add(self, name: str, *, load_s: float, size_bytes: int) -> None:
        cost, uses = load_s / max(1, size_bytes), 0
        if (past := self._past.get(name)) is not None:
            cost, uses = min(cost, past.cost), past.uses // 2
        self._ranked[name] = _Ranked(cost, uses, self._age)
        self.use(name)

    def use(self, name: str) -> None:
        ranked = self._ranked[name]
        ranked.uses += 1
        ranked.score = self._age + ranked.uses * ranked.cost

    def least(self, names: Iterable[str]) -> str | None:
        """Of `names`, the one to go first; of equals, the one that was added first."""
        return min(names, key=lambda name: self._ranked[name].score, default=None)

    def drop(self, name: str) -> None:
        """`name` has gone to make room."""
        gone = self._past[name] = self._ranked.pop(name)
        self._age = max(self._age, gone.score)
