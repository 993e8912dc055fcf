"""The workers of a plan, as processes without Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raymlops.train import ParallelPlan
from tests.train.ranks import DeadRankError, run_ranks

__all__ = ["DeadRankError", "run"]


def run(plan: ParallelPlan, body: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `body(seat, *arguments)` returns on every rank of the plan, by rank; see `run_ranks`."""
    return run_ranks(plan.num_workers, _seated, plan, body, arguments)


def _seated(plan: ParallelPlan, body: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    from raymlops.train.plan.seat import Seat

    return body(Seat.take(plan), *arguments)
