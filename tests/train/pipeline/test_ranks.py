"""Two ranks that use a pipeline in every way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import cross_entropy

from raymlops.train.pipeline import simulate, work_order
from tests.train.pipeline.models import perceptron
from tests.train.pipeline.stages import TASK, gradients, gradients_of, layout
from tests.train.pipeline.training import pipeline_of, train_alone
from tests.train.ranks import run_ranks


class Pool(nn.Module):
    """A sum, whose gradient is one number seen many times over instead of a row in memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1, keepdim=True)


class View(nn.Module):
    """Gives other shapes of the same memory, which cannot be detached in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), -1, 2).transpose(1, 2).reshape(len(x), -1)[:, : x.shape[1] - 1]


def odd_memory() -> nn.Module:
    """Cut into four, a stage ends in a view and one begins with a sum."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(64, 32), View(), nn.Linear(31, 10), Pool(), nn.Linear(1, 10))


def use(schedules: list[str]) -> list[dict[str, Any]]:
    """Per schedule, what a rank of two learns from using a pipeline in every way."""
    axis = init_device_mesh("cpu", (2,), mesh_dim_names=("pipeline",))
    found = []
    trained, _ = train_alone(TASK)
    for schedule in schedules:
        shape = layout(schedule, ranks=2, microbatches=4)
        pipeline = pipeline_of(TASK, shape, axis, 13)
        pipeline.load_state_dict(trained)
        evaluated = float(pipeline.evaluate(TASK.rows, TASK.targets))
        predicted = pipeline.predict(TASK.rows)
        modes = {part.training for stage in pipeline.stages.values() for part in stage.modules()}
        with pipeline.recording() as recording:
            pipeline.step(TASK.rows, TASK.targets, scale=1 / 50)
        busy_s = pipeline.busy_s
        odd = pipeline_of(replace(TASK, make=odd_memory), shape, axis, 13)
        odd.step(TASK.rows, TASK.targets, scale=1 / 50)
        found.append(
            {
                "evaluated": evaluated,
                "predicted": predicted,
                "modes": modes,
                "timeline": recording.timeline,
                "busy_s": busy_s,
                "odd": gradients_of(odd),
            }
        )
    return found


SCHEDULES_IN_USE = ["gpipe", "1f1b", "looped_bfs", "interleaved_zero_bubble", "dualpipe_v"]


def test_two_ranks_evaluate_predict_and_record() -> None:
    ranks = run_ranks(2, use, SCHEDULES_IN_USE)
    trained, _ = train_alone(TASK)
    model = perceptron()
    model.load_state_dict(trained)
    outputs = model(TASK.rows).detach()
    odd = odd_memory()
    cross_entropy(odd(TASK.rows), TASK.targets).backward()
    for schedule, *both in zip(SCHEDULES_IN_USE, *ranks, strict=True):
        shape = layout(schedule, ranks=2, microbatches=4)
        expected = float(cross_entropy(outputs, TASK.targets, reduction="sum"))
        assert [found["evaluated"] for found in both] == pytest.approx([expected] * 2, rel=1e-5)
        last = shape.rank_of(shape.num_stages - 1)
        assert both[1 - last]["predicted"] is None
        assert torch.allclose(both[last]["predicted"], outputs, atol=1e-6)
        assert both[0]["modes"] == {True}
        odd_gradients = {**both[0]["odd"], **both[1]["odd"]}
        assert odd_gradients.keys() == gradients(odd).keys()
        for name, gradient in gradients(odd).items():
            assert torch.allclose(odd_gradients[name], gradient, atol=1e-6), (schedule, name)
        timeline = both[0]["timeline"]
        assert timeline == both[1]["timeline"]
        ran = tuple(
            tuple(span.action for span in timeline.spans if span.rank == rank) for rank in range(2)
        )
        assert ran == work_order(shape)
        assert timeline.busy_s(1) == pytest.approx(both[1]["busy_s"])
        theory = simulate(work_order(shape), timeline.typical_durations())
        assert 0 < theory.bubble_share < 1
        assert 0 < timeline.bubble_share < 1
