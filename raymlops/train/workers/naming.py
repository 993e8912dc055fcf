"""What the worker of a rank is called where people look at a cluster.

    ray::raymlops-RUN-rank-3-data-1-stage-0+3

Ray Train starts all its workers alike and ranks them afterwards, so that none can be given a name
as it starts: each takes its own.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from raymlops.train.plan import ParallelPlan

_logger = logging.getLogger(__name__)


def name_of(run: str, plan: ParallelPlan, rank: int, *, num_stages: int | None = None) -> str:
    """Run, rank, and its place on every axis of the plan that has more than one; the stages it
    computes, of as many as the schedule takes unless `num_stages` says another number."""
    place = plan.coordinates(rank)
    parts = [f"raymlops-{run}-rank-{rank}"]
    parts += [
        f"{axis}-{place[axis]}"
        for axis, size in plan.sizes.items()
        if size > 1 and axis != "pipeline"
    ]
    if plan.pipeline > 1:
        stages = plan.pipeline_layout(num_stages=num_stages).stages_of(place["pipeline"])
        parts.append("stage-" + "+".join(map(str, stages)))
    return "-".join(parts)


def take_name(name: str) -> None:
    """Calls this process `name`, for as long as its actor lives: in its title, which `ps` and the
    processes of a node in Ray's dashboard show, and before what it prints in the driver's
    terminal.

    By what Ray 2.60 keeps to itself: where a Ray has it no more, training goes on without names.
    """
    try:
        from ray import _raylet
        from ray._private import ray_constants, worker

        process: Any = worker.global_worker
        actor = process.actors[process.core_worker.get_actor_id()]
        # Ray writes the title anew after each call, from the name of the actor's class.
        type(actor).__name__ = name
        untyped: Any = _raylet
        untyped.setproctitle(f"ray::{name}")
        prefix = ray_constants.LOG_PREFIX_ACTOR_NAME
    except (AttributeError, ImportError, KeyError) as error:
        _logger.warning("this Ray does not let its process be called %s: %r", name, error)
        return
    for stream in (sys.stdout, sys.stderr):  # read by Ray's log monitor, which shows no such line
        stream.write(f"{prefix}{name}\n")
        stream.flush()
