"""Whether a plan can run at all, said before anything starts; and which plans near it can."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from raymlops.errors import PlanError
from raymlops.train.plan import AXES, ParallelPlan

_NUM_NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Divisible:
    """Something of the model that the tensor axis must divide: "attention heads of blocks.0"."""

    what: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a plan has to fit in: the cluster's workers, the batch, the model.

    `num_layers` is how many pieces a pipeline can cut the model into; None when no pipeline can be
    built. `divisible` is what tensor parallelism would slice; empty when it finds nothing.
    """

    max_workers: int
    batch_size: int
    accumulation: int = 1
    num_layers: int | None = None
    divisible: tuple[Divisible, ...] = ()


def problems(plan: ParallelPlan, limits: Limits) -> tuple[str, ...]:
    """Every reason why the plan cannot run, with both numbers; empty when it can."""
    return tuple(itertools.chain(_of_size(plan, limits), _of_model(plan, limits)))


def require(plan: ParallelPlan, limits: Limits) -> None:
    """Raises PlanError with the nearest plans that can run, unless this one can."""
    if found := problems(plan, limits):
        raise PlanError(str(plan), found, tuple(map(str, nearest(plan, limits))))


def nearest(plan: ParallelPlan, limits: Limits) -> tuple[ParallelPlan, ...]:
    """Up to three plans that can run, the one with the most alike axes and sizes first."""
    fitting = [other for other in _plans(plan, limits) if not problems(other, limits)]
    return tuple(sorted(fitting, key=lambda other: _distance(plan, other))[:_NUM_NEAREST])


def _of_size(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    if plan.num_workers > limits.max_workers:
        product = " x ".join(f"{axis} {plan.sizes[axis]}" for axis in AXES if plan.sizes[axis] > 1)
        yield (
            f"it has {plan.num_workers} workers ({product}), there is room for "
            f"{limits.max_workers}: add machines, or set cluster.num_cpus"
        )
    pieces = plan.num_replicas * limits.accumulation * plan.microbatches
    if pieces > limits.batch_size:
        yield (
            f"a batch of {limits.batch_size} rows cannot be cut into {pieces} pieces "
            f"(data x shard {plan.num_replicas}, accumulation {limits.accumulation}, "
            f"microbatches {plan.microbatches})"
        )


def _of_model(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    if plan.pipeline > 1 and limits.num_layers is None:
        yield f"pipeline is {plan.pipeline}, but no pipeline can be built of this model yet"
    elif plan.pipeline > 1 and plan.pipeline > (limits.num_layers or 0):
        yield f"pipeline is {plan.pipeline}, the model has {limits.num_layers} layers to share out"
    if plan.tensor > 1 and not limits.divisible:
        yield f"tensor is {plan.tensor}, but nothing to slice was found in the model"
    for part in limits.divisible:
        if part.count % plan.tensor:
            yield f"tensor is {plan.tensor}, which does not divide the {part.count} {part.what}"


def _plans(plan: ParallelPlan, limits: Limits) -> Iterator[ParallelPlan]:
    """Every plan of at most as many workers as there is room for, on axes of small sizes."""
    most = limits.max_workers
    for sizes in itertools.product(range(1, min(most, _bound(plan)) + 1), repeat=len(AXES)):
        if math.prod(sizes) <= most:
            pipeline, data, shard, tensor = sizes
            yield replace(
                plan,
                pipeline=pipeline,
                data=data,
                shard=shard,
                tensor=tensor,
                microbatches=plan.microbatches if pipeline > 1 else 1,
            )


def _bound(plan: ParallelPlan) -> int:
    """No axis of a near plan is much longer than the longest of this one."""
    return min(64, 2 * max(plan.sizes.values()))


def _distance(plan: ParallelPlan, other: ParallelPlan) -> tuple[int, float, int]:
    """Axes opened or closed, then how far sizes are apart in doublings, then workers left idle."""
    pairs = [(plan.sizes[axis], other.sizes[axis]) for axis in AXES]
    changed = sum((a > 1) != (b > 1) for a, b in pairs)
    doublings = sum(abs(math.log2(a / b)) for a, b in pairs)
    return changed, doublings, -other.num_workers
