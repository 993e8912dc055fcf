"""Rounds: one update from one push of every living worker."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.train.server.sync.base import Progress


@dataclass(frozen=True, kw_only=True)
class Synchronous:
    """A round ends when every living worker has pushed; the first waits for `workers` of them.

        worker 0  push ──┐          ┌── pull
        worker 1  ── push ┤ update  ├── pull
        worker 2     push ┘ (mean)  └── pull

    Who dies drops out, and who comes back takes part in the round that is open then.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; a round has at least one")

    @property
    def steady(self) -> bool:
        return True

    def next_update(self, progress: Progress) -> tuple[int, ...]:
        complete = len(progress.waiting) == len(progress.clocks) > 0
        if complete and progress.num_seen >= self.workers:
            return tuple(sorted(progress.waiting))
        return ()

    def may_pull(self, progress: Progress, *, worker: int, clock: int) -> bool:
        # Rounds advance all workers together, so its own clock says it all.
        return clock <= progress.clocks[worker]
