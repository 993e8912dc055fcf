"""What a training asks of a parameter server that it could not honour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raymlops.train.plan import ParallelPlan


@dataclass(frozen=True, kw_only=True)
class Demands:
    """`refusal` says why no server can train this, None if one can; `max_shards` how many processes
    its parameters can be divided among, `max_workers` how many workers it can have.

    `skips` is why steps may be skipped, None if they may not, `scheduled` whether the learning rate
    changes.
    """

    refusal: str | None = None
    max_shards: int = 1
    max_workers: int = 1
    skips: str | None = None
    scheduled: bool = False

    def problems(self, plan: ParallelPlan) -> Iterator[str]:
        """Why the server of `plan` cannot train it; nothing if it can."""
        if self.refusal is not None:
            yield self.refusal
        elif plan.server > self.max_shards:
            yield (
                f"server is {plan.server}, and the parameters can be divided among "
                f"{self.max_shards} at most"
            )
        if plan.data > self.max_workers:
            yield f"data is {plan.data}, a server has at most {self.max_workers} workers"
        if self.skips is not None and plan.data > 1 and plan.sync != "synchronous":
            yield (
                f"{self.skips}, and with sync {plan.sync} the workers could not agree on which: "
                "set sync to synchronous"
            )
        elif self.skips is not None and self.scheduled:
            yield (
                f"{self.skips}, and the server counts only the others: its learning rate would "
                "fall behind the schedule; set it to constant"
            )
