"""What a pipeline refuses, and with which numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from raymlops.errors import TrainingError
from raymlops.train.pipeline import Pipeline
from tests.train.pipeline.models import perceptron
from tests.train.pipeline.stages import TASK, layout
from tests.train.pipeline.training import pipeline_of
from tests.train.ranks import run_ranks


def make(
    axis: DeviceMesh,
    model: nn.Module,
    schedule: str = "1f1b",
    starts: Sequence[str] = ("0",),
    *,
    ranks: int = 1,
    **more: Any,
) -> Pipeline:
    return Pipeline(
        model,
        layout(schedule, ranks=ranks),
        axis=axis,
        starts=starts,
        loss=TASK.loss,
        microbatch_size=13,
        **more,
    )


def test_what_contradicts_itself_is_refused(alone: DeviceMesh) -> None:
    with pytest.raises(ValueError, match=r"the mesh axis has shape \(1,\), the layout 2 ranks"):
        pipeline_of(TASK, layout("1f1b", ranks=2), alone, 13)
    with pytest.raises(ValueError, match=r"2 stages are named \(0, 4\), the layout has 1: 1 on ea"):
        make(alone, perceptron(), starts=["0", "4"])
    with pytest.raises(ValueError, match="2 stages, but the model has 1 blocks"):
        make(alone, nn.Sequential(nn.Linear(64, 10)), "looped_bfs", ["0", "1"])
    with pytest.raises(TrainingError, match=r"'1' \(BatchNorm1d\) would normalise over a microbat"):
        make(alone, nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10)))
    without = nn.BatchNorm1d(10, track_running_stats=False).eval()  # looks at rows all the same
    with pytest.raises(TrainingError, match=r"'1' \(BatchNorm1d\) would normalise over a microbat"):
        make(alone, nn.Sequential(nn.Linear(64, 10), without))
    with pytest.raises(ValueError, match="'zbv_zero_bubble' computes gradients of weights outside"):
        make(alone, perceptron(), "zbv_zero_bubble", ["0", "4"], wrap=DistributedDataParallel)

    def shard_layers(stage: nn.Module) -> nn.Module:
        for layer in list(stage.children()):
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=alone)
        return fully_shard(stage, mesh=alone)

    with pytest.raises(ValueError, match=r"'dualpipe_v' loses gradients of modules .*\(0, 2\)"):
        make(alone, perceptron(), "dualpipe_v", ["0", "4"], wrap=shard_layers)


def test_a_batch_that_does_not_fit_is_refused(alone: DeviceMesh) -> None:
    pipeline = pipeline_of(TASK, layout("1f1b"), alone, 12)
    with pytest.raises(ValueError, match=r"50 rows, more than 4 microbatches of 12 hold \(48\)"):
        pipeline.step(TASK.rows, TASK.targets, scale=1.0)
    with pytest.raises(ValueError, match=r"inputs and targets have \[48, 47\] rows"):
        pipeline.step(TASK.rows[:48], TASK.targets[:47], scale=1.0)
    with pytest.raises(ValueError, match="rank 0 holds the first stage and was given no inputs"):
        pipeline.step(None, TASK.targets, scale=1.0)
    with pytest.raises(ValueError, match="rank 0 holds the last stage and was given no targets"):
        pipeline.step(TASK.rows[:48], None, scale=1.0)
    pipeline.step(TASK.rows[:48], TASK.targets[:48], scale=1.0)
    message = r"is float32 \[12, 63\], and was float32 \[12, 64\] when the pipeline started"
    with pytest.raises(ValueError, match=message):
        pipeline.step(TASK.rows[:48, 1:], TASK.targets[:48], scale=1.0)


def test_a_stage_that_gives_no_tensor_is_refused(alone: DeviceMesh) -> None:
    pipeline = make(alone, nn.Sequential(nn.GRU(64, 4)))
    with pytest.raises(TrainingError, match="stage 0 gives a tuple; a stage gives one tensor"):
        pipeline.step(TASK.rows, TASK.targets, scale=1.0)


class Complex(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.complex(x, x)


class Length(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs()


def test_a_stage_that_hands_on_complex_numbers_is_refused(alone: DeviceMesh) -> None:
    """Those of another process ended with a broken connection; of the same one no gradient came
    back."""
    model = nn.Sequential(nn.Linear(64, 10), Complex(), Length(), nn.Linear(10, 10))
    pipeline = make(alone, model, "interleaved_1f1b", ["0", "2"])
    with pytest.raises(TrainingError, match=r"stage 0 gives complex64 \[13, 10\], .* real numbers"):
        pipeline.step(TASK.rows, TASK.targets, scale=1.0)


def disagree() -> str:
    axis = init_device_mesh("cpu", (2,), mesh_dim_names=("pipeline",))
    starts = ["0", "4"] if dist.get_rank() == 0 else ["0", "6"]
    pipeline = make(axis, perceptron(), starts=starts, ranks=2)
    with pytest.raises(ValueError, match="rank 1 has another pipeline") as caught:
        pipeline.step(TASK.rows, TASK.targets, scale=1.0)
    return str(caught.value)


def test_ranks_that_cut_in_different_places_are_refused() -> None:
    messages = run_ranks(2, disagree)
    for message in messages:
        assert "('0', '6')" in message
        assert "('0', '4')" in message
        assert "decide on one rank and broadcast" in message
