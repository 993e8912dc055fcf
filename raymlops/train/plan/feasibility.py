"""Whether a plan can run at all, said before anything starts; and which plans near it can."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from raymlops.errors import PlanError
from raymlops.train.plan.plan import AXES, Axis, ParallelPlan
from raymlops.train.updaters.demands import Demands

_NUM_NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Divisible:
    """Something of the model that the tensor axis must divide: "attention heads of blocks.0"."""

    what: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a plan has to fit in: the cluster's workers, the batch, the model.

    `scarce` is what the cluster runs out of first. `num_layers` is how many pieces a pipeline can
    cut the model into, 0 when it cannot, for the reason `uncuttable`; `shared` names parameters
    that keep pieces together; `num_stages` is how many stages the spec names, None when they are
    cut by cost. `divisible` is what tensor parallelism would slice;
    empty when it finds nothing. `closed` says of an axis, or of a server, why it cannot be had.
    `demands` are what a parameter server would have to honour, None when nobody asked.
    """

    max_workers: int
    batch_size: int
    scarce: str = "CPUs"
    accumulation: int = 1
    num_layers: int = 0
    num_stages: int | None = None
    uncuttable: str = "it was not looked at"
    shared: tuple[str, ...] = ()
    divisible: tuple[Divisible, ...] = ()
    closed: Mapping[Axis | Literal["server"], str] = field(default_factory=dict)
    demands: Demands | None = None


def problems(plan: ParallelPlan, limits: Limits) -> tuple[str, ...]:
    """Every reason why the plan cannot run, with both numbers; empty when it can."""
    found = itertools.chain(
        _of_size(plan, limits),
        _of_framework(plan, limits),
        _of_model(plan, limits),
        _of_server(plan, limits),
    )
    return tuple(found)


def require(plan: ParallelPlan, limits: Limits) -> None:
    """Raises PlanError with the nearest plans that can run, unless this one can."""
    if found := problems(plan, limits):
        raise PlanError(str(plan), found, tuple(map(str, nearest(plan, limits))))


def nearest(plan: ParallelPlan, limits: Limits) -> tuple[ParallelPlan, ...]:
    """Up to three plans that can run, the one with the most alike axes and sizes first."""
    fitting = [other for other in _plans(plan, limits) if not problems(other, limits)]
    return tuple(sorted(fitting, key=lambda other: _distance(plan, other))[:_NUM_NEAREST])


def axis_sizes(num_axes: int, most: int, longest: int) -> Iterator[tuple[int, ...]]:
    """The sizes of so many axes, none above `longest`, for every number of workers up to `most`."""
    if not num_axes:
        yield ()
        return
    for size in range(1, min(most, longest) + 1):
        for others in axis_sizes(num_axes - 1, most // size, longest):
            yield size, *others


def _of_size(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    if plan.num_workers > limits.max_workers:
        product = " x ".join(f"{axis} {plan.sizes[axis]}" for axis in AXES if plan.sizes[axis] > 1)
        yield (
            f"it has {plan.num_workers} workers ({product}), there is room for "
            f"{limits.max_workers}: add machines{_hint(limits)}"
        )
    pieces = plan.num_replicas * limits.accumulation * plan.microbatches
    if pieces > limits.batch_size:
        yield (
            f"a batch of {limits.batch_size} rows cannot be cut into {pieces} pieces "
            f"(data x shard {plan.num_replicas}, accumulation {limits.accumulation}, "
            f"microbatches {plan.microbatches})"
        )


def _hint(limits: Limits) -> str:
    return ", or set cluster.num_cpus" if limits.scarce == "CPUs" else f" with {limits.scarce}"


def _of_framework(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    for what, why in limits.closed.items():
        size, smallest = (plan.server, 0) if what == "server" else (plan.sizes[what], 1)
        if size > smallest:
            yield f"{what} is {size}, but {why}"


def _of_model(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    if plan.pipeline > 1 and "pipeline" not in limits.closed:
        yield from _of_pipeline(plan, limits)
    if plan.tensor > 1 and "tensor" not in limits.closed and not limits.divisible:
        yield (
            f"tensor is {plan.tensor}, but nothing to slice was found in the model: name its "
            "layers in the spec, such as tensor.slices={blocks.*.up: column, blocks.*.down: row}"
        )
    for part in limits.divisible:
        if part.count % plan.tensor:
            yield f"tensor is {plan.tensor}, which does not divide the {part.count} {part.what}"


def _of_pipeline(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    if limits.num_layers == 0:
        yield f"pipeline is {plan.pipeline}, but the model cannot be cut: {limits.uncuttable}"
        return
    try:
        layout = plan.pipeline_layout(num_stages=limits.num_stages)
    except ValueError as error:
        yield str(error)
        return
    if layout.num_stages > limits.num_layers:
        yield (
            f"{layout.num_stages} stages on a pipeline of {plan.pipeline} with schedule "
            f"{plan.schedule}, the model has {limits.num_layers} blocks to share out{_kept(limits)}"
        )


def _kept(limits: Limits) -> str:
    if not limits.shared:
        return ""
    first, more = limits.shared[0], len(limits.shared) - 1
    return (
        f": what reads {first}{f' (or one of {more} more)' if more else ''} is one, with all "
        "between, since a parameter lives in one stage; give each place a parameter of its own, or "
        "use tensor or shard"
    )


def _of_server(plan: ParallelPlan, limits: Limits) -> Iterator[str]:
    if not plan.server or "server" in limits.closed:
        return
    for axis in AXES:
        if axis != "data" and plan.sizes[axis] > 1:
            yield (
                f"{axis} is {plan.sizes[axis]} and server {plan.server}: workers of a server hold "
                "whole copies, on the data axis alone"
            )
    if limits.demands is not None:
        yield from limits.demands.problems(plan)


def _plans(plan: ParallelPlan, limits: Limits) -> Iterator[ParallelPlan]:
    """Every plan of at most as many workers as there is room for, on axes no more than twice as
    long as the longest of this one."""
    longest = 2 * max(plan.sizes.values())
    for pipeline, data, shard, tensor in axis_sizes(len(AXES), limits.max_workers, longest):
        counts = {plan.microbatches, pipeline, 2 * pipeline} if pipeline > 1 else {1}
        for count in sorted(counts):
            sized = replace(
                plan, pipeline=pipeline, data=data, shard=shard, tensor=tensor, microbatches=count
            )
            yield sized
            if plan.server > 1:
                yield replace(sized, server=1)
            if plan.server:
                yield replace(sized, server=0, sync="synchronous", staleness=0)


def _distance(plan: ParallelPlan, other: ParallelPlan) -> tuple[bool, int, float, int]:
    """Whether nothing is parallel any more, axes opened or closed, then how far sizes are apart in
    doublings, then workers left idle."""
    is_given_up = other.num_workers == 1 < plan.num_workers
    pairs = [(plan.sizes[axis], other.sizes[axis]) for axis in AXES]
    changed = sum((a > 1) != (b > 1) for a, b in pairs)
    changed += (plan.server > 0) != (other.server > 0)
    pairs.append((max(1, plan.server), max(1, other.server)))
    if other.pipeline > 1:
        pairs.append((plan.microbatches, other.microbatches))
    doublings = sum(abs(math.log2(a / b)) for a, b in pairs)
    return is_given_up, changed, doublings, -other.num_workers
