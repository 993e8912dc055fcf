"""Stale-synchronous: asynchronous, but nobody runs far ahead."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.train.server.sync.base import Progress


@dataclass(frozen=True, kw_only=True)
class Stale:
    """Each push is applied as it comes; a pull at clock c waits until clock c - bound is complete.

    What a worker pulls after c pushes holds at least the first c - bound pushes of every living
    worker, its own among them (Ho et al., 2013).
    """

    bound: int

    def __post_init__(self) -> None:
        if self.bound < 0:
            raise ValueError(f"bound is {self.bound}; it is the number of pushes, at least 0")

    @property
    def steady(self) -> bool:
        return False

    def next_update(self, progress: Progress) -> tuple[int, ...]:
        return progress.waiting[:1]

    def may_pull(self, progress: Progress, *, worker: int, clock: int) -> bool:
        return clock - self.bound <= min(progress.clocks.values())
