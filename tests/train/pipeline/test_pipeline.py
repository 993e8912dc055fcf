"""What a pipeline's gradients are: those of the model in one piece, whatever the batch holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.functional import cross_entropy

from raymlops.errors import TrainingError
from raymlops.train.pipeline import Pipeline
from tests.train.pipeline.models import perceptron
from tests.train.pipeline.stages import TASK, gradients, gradients_of, layout
from tests.train.pipeline.training import pipeline_of


def assert_same_gradients(pipeline: Pipeline, model: nn.Module) -> None:
    ours, expected = gradients_of(pipeline), gradients(model)
    assert ours.keys() == expected.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, expected[name], atol=1e-6), name


@pytest.mark.parametrize("num_rows", [50, 13, 2])
@pytest.mark.parametrize("schedule", ["gpipe", "interleaved_1f1b", "zbv_zero_bubble"])
def test_a_batch_may_be_shorter_than_its_microbatches(
    alone: DeviceMesh, schedule: str, num_rows: int
) -> None:
    rows, targets = TASK.rows[:num_rows], TASK.targets[:num_rows]
    pipeline = pipeline_of(TASK, layout(schedule), alone, 13)
    loss = pipeline.step(rows, targets, scale=1 / num_rows)
    model = perceptron()
    expected = cross_entropy(model(rows), targets)
    expected.backward()
    assert float(loss) == pytest.approx(num_rows * float(expected.detach()), rel=1e-5)
    assert_same_gradients(pipeline, model)


def test_a_batch_without_rows_has_no_loss_and_no_gradient(alone: DeviceMesh) -> None:
    pipeline = pipeline_of(TASK, layout("1f1b"), alone, 13)
    assert float(pipeline.step(TASK.rows[:0], TASK.targets[:0], scale=1.0)) == 0.0
    assert all(not gradient.any() for gradient in gradients_of(pipeline).values())


def test_rows_may_weigh_differently(alone: DeviceMesh) -> None:
    weights = torch.linspace(0, 3, 50)

    def weighted(outputs: torch.Tensor, targets: Any) -> torch.Tensor:
        labels, weight = targets
        return (cross_entropy(outputs, labels, reduction="none") * weight).sum()

    model = perceptron()
    pipeline = Pipeline(
        perceptron(),
        layout("looped_bfs"),
        axis=alone,
        starts=["0", "4"],
        loss=weighted,
        microbatch_size=13,
    )
    loss = pipeline.step(TASK.rows, (TASK.targets, weights), scale=1 / float(weights.sum()))
    expected = weighted(model(TASK.rows), (TASK.targets, weights))
    (expected / weights.sum()).backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_same_gradients(pipeline, model)


def test_gradients_add_up_over_steps(alone: DeviceMesh) -> None:
    pipeline = pipeline_of(TASK, layout("1f1b"), alone, 7)
    for part in (slice(0, 28), slice(28, 50)):
        pipeline.step(TASK.rows[part], TASK.targets[part], scale=1 / 50)
    model = perceptron()
    cross_entropy(model(TASK.rows), TASK.targets).backward()
    assert_same_gradients(pipeline, model)


@pytest.mark.parametrize("schedule", ["looped_bfs", "interleaved_zero_bubble", "zbv_zero_bubble"])
def test_frozen_stages_pass_gradients_nowhere(alone: DeviceMesh, schedule: str) -> None:
    def frozen() -> nn.Module:
        model = perceptron()
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(("6.", "8."))
        return model

    pipeline = pipeline_of(replace(TASK, make=frozen), layout(schedule), alone, 13)
    pipeline.step(TASK.rows, TASK.targets, scale=1 / 50)
    model = frozen()
    cross_entropy(model(TASK.rows), TASK.targets).backward()
    assert_same_gradients(pipeline, model)


def test_half_precision_passes_between_stages(alone: DeviceMesh) -> None:
    pipeline = pipeline_of(TASK, layout("interleaved_1f1b"), alone, 13)
    with torch.autocast("cpu", torch.bfloat16):
        half = float(pipeline.step(TASK.rows, TASK.targets, scale=1 / 50))
    model = perceptron()
    exact = float(cross_entropy(model(TASK.rows), TASK.targets, reduction="sum").detach())
    assert half == pytest.approx(exact, rel=1e-2)
    assert half != pytest.approx(exact, rel=1e-6)
    with pytest.raises(TrainingError, match=r"stage 0 gives float32 \[13, 32\], but gave bfloat16"):
        pipeline.evaluate(TASK.rows, TASK.targets)


def test_dropout_draws_anew_for_every_microbatch(alone: DeviceMesh) -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10))

    rows = torch.ones(8, 64)
    seen: list[torch.Tensor] = []

    def loss(outputs: torch.Tensor, targets: Any) -> torch.Tensor:
        seen.append(outputs.detach().clone())
        return outputs.sum()

    pipeline = Pipeline(
        model(),
        layout("gpipe", microbatches=2),
        axis=alone,
        starts=["0"],
        loss=loss,
        microbatch_size=4,
    )
    torch.manual_seed(5)
    pipeline.step(rows, torch.zeros(8), scale=1.0)
    after = torch.rand(1)
    assert len({tuple(row.tolist()) for row in torch.cat(seen)}) == 8
    torch.manual_seed(5)
    nn.Dropout(0.5)(rows[:4]), nn.Dropout(0.5)(rows[4:])
    assert torch.equal(after, torch.rand(1))  # starting the pipeline drew no number
    seen.clear()
    pipeline.evaluate(rows, torch.zeros(8))
    assert len({tuple(row.tolist()) for row in torch.cat(seen)}) == 1
