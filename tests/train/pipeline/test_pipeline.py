"""What a pipeline does beside training: weights of rows, evaluation, records, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from raymlops.errors import TrainingError
from raymlops.train.pipeline import Pipeline, PipelineLayout, simulate, work_order
from tests.train.pipeline.models import digits, perceptron
from tests.train.pipeline.training import pipeline_of, train_alone
from tests.train.ranks import run_ranks

TASK = digits(50)


@pytest.fixture(scope="module")
def alone() -> Iterator[DeviceMesh]:
    """An axis of this process only: two stages of a V run here one after the other."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("pipeline",))
    dist.destroy_process_group()


def layout(schedule: str, *, ranks: int = 1, microbatches: int = 4) -> PipelineLayout:
    return PipelineLayout.fewest_stages(schedule, num_ranks=ranks, num_microbatches=microbatches)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def gradients_of(pipeline: Pipeline) -> dict[str, torch.Tensor]:
    return {n: g for stage in pipeline.stages.values() for n, g in gradients(stage).items()}


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


def test_what_contradicts_itself_is_refused(alone: DeviceMesh) -> None:
    def make(
        model: nn.Module, schedule: str = "1f1b", starts: list[str] | None = None, **more: Any
    ) -> Pipeline:
        return Pipeline(
            model,
            layout(schedule),
            axis=alone,
            starts=starts or ["0"],
            loss=TASK.loss,
            microbatch_size=13,
            **more,
        )

    with pytest.raises(ValueError, match=r"the mesh axis has shape \(1,\), the layout 2 ranks"):
        pipeline_of(TASK, layout("1f1b", ranks=2), alone, 13)
    with pytest.raises(ValueError, match=r"2 stages are named \(0, 4\), the layout has 1: 1 on ea"):
        make(perceptron(), starts=["0", "4"])
    with pytest.raises(ValueError, match="2 stages, but the model has 1 blocks"):
        make(nn.Sequential(nn.Linear(64, 10)), "looped_bfs", ["0", "1"])
    with pytest.raises(TrainingError, match=r"'1' \(BatchNorm1d\) would normalise over a microbat"):
        make(nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10)))
    with pytest.raises(ValueError, match="'zbv_zero_bubble' computes gradients of weights outside"):
        make(perceptron(), "zbv_zero_bubble", ["0", "4"], wrap=DistributedDataParallel)

    def shard_layers(stage: nn.Module) -> nn.Module:
        for layer in list(stage.children()):
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=alone)
        return fully_shard(stage, mesh=alone)

    with pytest.raises(ValueError, match=r"'dualpipe_v' loses gradients of modules .*\(0, 2\)"):
        make(perceptron(), "dualpipe_v", ["0", "4"], wrap=shard_layers)


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
    pipeline = Pipeline(
        nn.Sequential(nn.GRU(64, 4)),
        layout("1f1b"),
        axis=alone,
        starts=["0"],
        loss=TASK.loss,
        microbatch_size=13,
    )
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
    pipeline = Pipeline(
        nn.Sequential(nn.Linear(64, 10), Complex(), Length(), nn.Linear(10, 10)),
        layout("interleaved_1f1b"),
        axis=alone,
        starts=["0", "2"],
        loss=TASK.loss,
        microbatch_size=13,
    )
    with pytest.raises(TrainingError, match=r"stage 0 gives complex64 \[13, 10\], .* real numbers"):
        pipeline.step(TASK.rows, TASK.targets, scale=1.0)


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


def disagree() -> str:
    axis = init_device_mesh("cpu", (2,), mesh_dim_names=("pipeline",))
    starts = ["0", "4"] if dist.get_rank() == 0 else ["0", "6"]
    pipeline = Pipeline(
        perceptron(),
        layout("1f1b", ranks=2),
        axis=axis,
        starts=starts,
        loss=TASK.loss,
        microbatch_size=13,
    )
    with pytest.raises(ValueError, match="rank 1 has another pipeline") as caught:
        pipeline.step(TASK.rows, TASK.targets, scale=1.0)
    return str(caught.value)


def test_ranks_that_cut_in_different_places_are_refused() -> None:
    messages = run_ranks(2, disagree)
    for message in messages:
        assert "('0', '6')" in message
        assert "('0', '4')" in message
        assert "decide on one rank and broadcast" in message
