"""No waiting: every push is an update."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.train.server.sync.base import Progress


@dataclass(frozen=True)
class Asynchronous:
    """Each push is applied as it comes, each pull gets the newest version.

    A pull does not wait for the worker's own pushes that are still on their way.
    """

    @property
    def steady(self) -> bool:
        return False

    def next_update(self, progress: Progress) -> tuple[int, ...]:
        return progress.waiting[:1]

    def may_pull(self, progress: Progress, *, worker: int, clock: int) -> bool:
        return True
