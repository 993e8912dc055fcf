"""Two stages, each replicated or sharded over two processes: four in all."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from raymlops.train.pipeline import PipelineLayout
from tests.endurance import endurance
from tests.train.pipeline.models import Task, text
from tests.train.pipeline.test_equality import assert_alike, merged
from tests.train.pipeline.training import pipeline_of, train, train_alone
from tests.train.ranks import run_ranks

# Replicas get 14 and 13 rows, in 4 microbatches of 4: the last ones hold 2 and 1.
TASK = text(27)
CASES = [
    ("ddp", "1f1b"),
    ("ddp", "interleaved_1f1b"),
    ("fsdp of blocks", "1f1b"),
    ("fsdp of blocks", "looped_bfs"),
    ("fsdp of stages", "interleaved_zero_bubble"),
    ("fsdp of stages", "zbv_zero_bubble"),
    ("fsdp of stages", "dualpipe_v"),
]
FEW = [CASES[0], CASES[3], CASES[5]]


def replicate(stage: nn.Module, *, how: str, axis: DeviceMesh) -> nn.Module:
    if how == "ddp":
        return DistributedDataParallel(stage, process_group=axis.get_group())
    if how == "fsdp of blocks":
        for name, module in stage.named_modules():
            if name.startswith("blocks.") and name.count(".") == 1:
                fully_shard(module, mesh=axis)
    return fully_shard(stage, mesh=axis)


def train_replicas(task: Task, cases: list[tuple[str, str]]) -> list[tuple[Any, Any]]:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "pipeline"))
    replica = mesh["data"].get_local_rank()
    mine = Task(
        make=task.make,
        rows=task.rows[replica::2],
        targets=task.targets[replica::2],
        learning_rate=task.learning_rate,
    )
    results = []
    for how, schedule in cases:
        layout = PipelineLayout.fewest_stages(schedule, num_ranks=2, num_microbatches=4)
        wrap = partial(replicate, how=how, axis=mesh["data"])
        pipeline = pipeline_of(mine, layout, mesh["pipeline"], 4, wrap=wrap)
        state, losses = train(pipeline, mine, scale=2 / len(task.rows))
        evaluated = float(pipeline.evaluate(mine.rows, mine.targets))
        sums = torch.tensor([*losses, evaluated], dtype=torch.float64)
        dist.all_reduce(sums, group=mesh["data"].get_group())
        results.append((state, sums.tolist()))
    return results


@pytest.mark.parametrize("cases", [FEW, endurance(CASES)], ids=len)
def test_replicas_of_stages_train_what_one_process_trains(cases: list[tuple[str, str]]) -> None:
    reference, losses = train_alone(TASK)
    model = TASK.make()
    model.load_state_dict(reference)
    evaluated = float(TASK.loss(model(TASK.rows), TASK.targets).detach())
    ranks = run_ranks(4, train_replicas, TASK, cases)
    for case, trained in zip(cases, zip(*ranks, strict=True), strict=True):
        states = [state for state, _ in trained]
        # Ranks 0 and 1 are the first replica, 2 and 3 the second.
        for replica in (states[:2], states[2:]):
            assert_alike(merged(replica), reference)
        for _, sums in trained:
            assert sums == pytest.approx([*losses, evaluated], rel=1e-5), case


def shard(stage: nn.Module, *, axis: DeviceMesh) -> nn.Module:
    plan: dict[str, ParallelStyle] = {}
    for name, _ in stage.named_modules():
        if name.endswith("feed.0"):
            plan[name] = ColwiseParallel()
        elif name.endswith("feed.2"):
            plan[name] = RowwiseParallel()
    return parallelize_module(stage, axis, plan)


def train_shards(task: Task, schedules: list[str]) -> list[tuple[Any, Any]]:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pipeline", "tensor"))
    results = []
    for schedule in schedules:
        layout = PipelineLayout.fewest_stages(schedule, num_ranks=2, num_microbatches=4)
        wrap = partial(shard, axis=mesh["tensor"])
        pipeline = pipeline_of(task, layout, mesh["pipeline"], 7, wrap=wrap)
        results.append(train(pipeline, task, scale=1 / len(task.rows)))
    return results


def test_stages_of_sharded_layers_train_what_one_process_trains() -> None:
    reference, losses = train_alone(TASK)
    ranks = run_ranks(4, train_shards, TASK, ["1f1b", "zbv_zero_bubble"])
    for trained in zip(*ranks, strict=True):
        # Ranks 0 and 1 share the first stages, 2 and 3 the last.
        for shards in (trained[::2], trained[1::2]):
            assert_alike(merged([state for state, _ in shards]), reference)
        for _, seen in trained:
            assert seen == pytest.approx(losses, rel=1e-5)
