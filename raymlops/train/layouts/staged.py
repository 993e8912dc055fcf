"""Some of the layers in every worker, activations passed on: the stages of a pipeline.

Replicas of a stage are copied by DDP or sliced by FSDP2, as whole models are. Under a schedule that
computes gradients of weights outside of autograd's hooks FSDP2 copies too, a stage at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from raymlops.storage.files import save as write_file
from raymlops.train.layouts.base import Context, Layout, Rows, Tell
from raymlops.train.layouts.meeting import Meeting
from raymlops.train.layouts.recorded import keep_timeline
from raymlops.train.layouts.searched import Search
from raymlops.train.layouts.sharded import mesh_of
from raymlops.train.layouts.shards import require_shardable
from raymlops.train.pipeline import (
    Pipeline,
    find_chain,
    measure_costs,
    split_by_cost,
)
from raymlops.train.pipeline.loss import Targets
from raymlops.train.pipeline.schedules import find_schedule
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.recipe import Loss

_STAGES = "stages.json"

Prepare = Callable[[nn.Module], None]


class Staged(Layout):
    """A pipeline's schedule runs each batch; see `raymlops.train.pipeline`.

    `prepare` changes a stage in place before it is replicated, such as by compiling it. Of `blocks`
    those that lie in a stage are gathered on their own, where the schedule allows it. The timeline
    of the second batch is kept in the folder `timeline_to`: the first also finds out what passes
    between stages. Replicas of a stage expect parameters without a gradient where some are
    `unreached` by the loss of one row, or the model `looks` at its rows; then they meet at blocks.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        seat: Seat,
        *,
        starts: Sequence[str],
        microbatch_size: int,
        blocks: Iterable[nn.Module],
        computing: Context,
        prepare: Prepare,
        timeline_to: Path | None = None,
        unreached: Collection[str] = (),
        looks: bool = False,
    ) -> None:
        assert seat.mesh is not None, "a plan with a pipeline has a mesh"
        self._searches: list[Search] = []
        replicate = _replication(seat, set(blocks), unreached, self._searches, looks=looks)

        def wrap(stage: nn.Module) -> nn.Module:
            _enter_around_forward(stage, computing)
            prepare(stage)
            return replicate(stage)

        def computed_loss(outputs: torch.Tensor, targets: Targets) -> torch.Tensor:
            assert isinstance(targets, torch.Tensor), "a source has one column of targets"
            with computing():
                return loss(outputs, targets)

        self._pipeline = Pipeline(
            model,
            seat.plan.pipeline_layout(num_stages=len(starts)),
            axis=seat.mesh["pipeline"],
            starts=starts,
            loss=computed_loss,
            microbatch_size=microbatch_size,
            wrap=wrap,
        )
        self.parts = tuple(self._pipeline.stages.values())
        self._timeline_to = timeline_to
        self._is_first = seat.rank == 0
        self._num_batches = 0

    def backward(self, rows: Rows, *, scale: float, last: bool, tell: Tell) -> None:
        """As for every layout; what was averaged before `last` stays the average, so that replicas
        which average more often than they must still agree."""
        started = time.perf_counter()
        self._num_batches += 1
        scale *= rows.weight
        if self._timeline_to is not None and self._num_batches == 2:
            with self._pipeline.recording() as recording:
                total = self._pipeline.step(rows.inputs, rows.targets, scale=scale)
            if self._is_first:
                keep_timeline(recording.timeline, self._pipeline.layout, self._timeline_to)
        else:
            total = self._pipeline.step(rows.inputs, rows.targets, scale=scale)
        if last:
            for search in self._searches:
                search.end()
        self.idle_s = max(0.0, time.perf_counter() - started - self._pipeline.busy_s)
        tell(total * rows.weight)

    def evaluate(self, rows: Rows) -> torch.Tensor:
        return self._pipeline.evaluate(rows.inputs, rows.targets) * rows.weight


def decide_stages(
    model: nn.Module,
    seat: Seat,
    rows: tuple[torch.Tensor, ...],
    folder: Path | None,
) -> tuple[str, ...]:
    """The split by cost as rank 0 measured it on `rows`, the model's arguments.

    It is kept in `folder`, so that a training which goes on there cuts where it did before: the
    random numbers that a stage draws depend on what lies in it. All workers measure, since sliced
    layers need them.
    """
    path = None if folder is None or seat.rank != 0 else folder / _STAGES
    found: list[Any] = [_kept(path, seat.plan) if path is not None else None]
    dist.broadcast_object_list(found, src=0, group=seat.saving)
    if found[0] is None:
        costs = measure_costs(find_chain(model), *rows)
        found = [split_by_cost(costs, seat.plan.pipeline_layout().num_stages)]
        dist.broadcast_object_list(found, src=0, group=seat.saving)
        if path is not None:
            kept = json.dumps({"plan": str(seat.plan), "starts": found[0]}, indent=2)
            write_file(path, [kept.encode()], durable=True)
    return tuple(found[0])


def _kept(path: Path, plan: ParallelPlan) -> list[str] | None:
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    return kept["starts"] if kept["plan"] == str(plan) else None


def _replication(
    seat: Seat,
    blocks: set[nn.Module],
    unreached: Collection[str],
    searches: list[Search],
    *,
    looks: bool,
) -> Callable[[nn.Module], nn.Module]:
    """What makes the replicas of a stage train together; of sharded ones it adds to `searches`."""
    plan = seat.plan
    if plan.num_replicas == 1:
        return lambda stage: stage
    splits = find_schedule(plan.schedule).splits_backward
    if plan.shard == 1 and plan.tensor == 1 and not splits:
        return lambda stage: DistributedDataParallel(
            stage, process_group=seat.replicas, find_unused_parameters=bool(unreached) or looks
        )

    def shard(stage: nn.Module) -> nn.Module:
        alone = [] if splits else [module for module in stage.modules() if module in blocks]
        require_shardable(stage, alone)
        search = Search(stage, alone, seat) if unreached or looks else None
        for module in alone:
            fully_shard(module, mesh=mesh_of(seat))
        shards = fully_shard(stage, mesh=mesh_of(seat))
        if search is not None:
            meeting = Meeting(stage, alone, seat) if looks and alone else None
            stage.register_forward_hook(partial(_end_pass, search, meeting))
            search.begin(shards, unreached)
            searches.append(search)
        return stage

    return shard


def _end_pass(
    search: Search, meeting: Meeting | None, _stage: nn.Module, _inputs: Any, output: torch.Tensor
) -> None:
    reached = search.follow(output)
    if meeting is not None:
        meeting.end(reached)


def _enter_around_forward(stage: nn.Module, computing: Context) -> None:
    """A stage's forward runs within a schedule, which knows no context of ours."""
    forward = stage.forward

    def within(*inputs: torch.Tensor) -> torch.Tensor:
        with computing():
            output: torch.Tensor = forward(*inputs)
        return output

    stage.forward = within
