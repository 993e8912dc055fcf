"""How far workers may run apart: the contract of the modes, which decide and do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a shard knows about its workers at one moment.

    `clocks` holds, of each living worker, how many of its pushes were applied, counted from the
    slowest one's clock on where it joined late. `waiting` are the living workers with a push that
    could be applied, in the order of arrival. `num_seen` counts every worker that ever joined.
    """

    clocks: Mapping[int, int]
    waiting: tuple[int, ...]
    num_seen: int


class Sync(Protocol):
    """A mode of the server: two pure decisions, taken anew after each event."""

    @property
    def steady(self) -> bool:
        """Whether what a living worker has pulled stays until it pushes, and need not be copied."""
        ...

    def next_update(self, progress: Progress) -> tuple[int, ...]:
        """The workers whose oldest push goes into the next update, in the order of summing.

        An update is one step of the optimizer on the mean of its gradients.
        """
        ...

    def may_pull(self, progress: Progress, *, worker: int, clock: int) -> bool:
        """Whether the living `worker`, which has pushed until `clock`, may be answered."""
        ...
