"""Replayed passes: the numbers of those that run, whatever the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.devices import Cpu, Cuda, Device
from raymlops.train.loop.loop import Loop
from raymlops.train.plan.seat import Seat
from raymlops.train.replay import Replays
from raymlops.train.replay.base import decide, form_of
from raymlops.train.spec import Precision, TrainSpec
from raymlops.train.spec.factory import Factory
from tests.train import gloo
from tests.train.replay.tape import Tape, TapedCpu
from tests.train.specs import CNN, MLP, TEXT

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no GPU of NVIDIA here"
)
FORM = form_of((torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)))


def graphed(spec: TrainSpec, **changes: Any) -> TrainSpec:
    return replace(spec, device="cuda", cuda_graphs=True, **changes)


def batch_normed() -> nn.Module:
    """Its buffers are moved by each pass."""
    return nn.Sequential(
        nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 10)
    )


NORMED = replace(
    MLP, model=Factory(call="tests.train.replay.test_replay:batch_normed"), accumulation=1
)


class Centred(nn.Module):
    """Follows the mean of the rows it is given."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.1)
        return x - self.mean


def centred() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 16), Centred(), nn.ReLU(), nn.Linear(16, 10))


CENTRED = replace(MLP, model=Factory(call="tests.train.replay.test_replay:centred"))


def train(seat: Seat, spec: TrainSpec) -> tuple[list[Mapping[str, float]], dict[str, Any]]:
    logged: list[Mapping[str, float]] = []
    loop = Loop(spec, seat, log=lambda values, step: logged.append(values))
    loop.run()
    return logged, {name: weight.cpu() for name, weight in loop.weights().items()}


def train_on_tape(seat: Seat, spec: TrainSpec) -> tuple[Any, Any, int, int]:
    """The same, replayed; how many recordings and replays there were."""
    device = TapedCpu()
    logged, weights = train(replace(seat, device=device), spec)
    return logged, weights, device.tape.num_recordings, device.tape.num_replays


def losses(logged: list[Mapping[str, float]]) -> list[float]:
    return [values["loss"] for values in logged if "loss" in values]


@pytest.mark.parametrize(
    ("full", "counts", "num_others", "decision"),
    [
        (True, True, 0, "record"),
        (True, True, 3, "record"),
        (True, True, 4, "run"),  # no memory for more
        (False, True, 0, "run"),  # the short last batch
        (True, False, 0, "run"),  # stands in for rows that are not there
    ],
)
def test_rows_are_recorded_unless(full: bool, counts: bool, num_others: int, decision: str) -> None:
    others = [form_of((torch.zeros(5 + n, 2),)) for n in range(num_others)]
    assert decide(FORM, others, full=full, counts=counts) == decision
    if full and counts:
        assert decide(FORM, [*others, FORM], full=full, counts=counts) == "replay"


def test_two_inputs_give_two_results_both_right() -> None:
    model = nn.Linear(3, 1)
    runs = []

    def passes(rows: tuple[torch.Tensor, ...], scale: torch.Tensor) -> torch.Tensor:
        runs.append(rows)
        loss = (model(rows[0]) * rows[1]).sum()
        torch.autograd.backward(loss * scale.to(loss.dtype))
        return loss.detach()

    replays = Replays(model, passes, Cpu(), Tape())
    results = []
    for number, scale in ((1.0, 1.0), (2.0, 8.0), (3.0, 0.5)):
        rows = (torch.full((4, 3), number), torch.arange(4.0)[:, None] + number)
        given = tuple(column.clone() for column in rows)
        assert replays.takes(rows, full=True, counts=True)
        results.append(replays.replay(rows, scale))
        assert all(torch.equal(a, b) for a, b in zip(rows, given, strict=True))  # only read

        expected = (model(rows[0]) * rows[1]).sum()
        wanted = torch.autograd.grad(expected * scale, list(model.parameters()))
        assert torch.equal(results[-1], expected.detach())
        for parameter, gradient in zip(model.parameters(), wanted, strict=True):
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, gradient)
            parameter.grad.zero_()
    assert len({float(result) for result in results}) == 3  # each in memory of its own
    assert len(runs) == 2  # warmed up and recorded, and never run again


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_replayed_training_is_bit_equal(precision: Precision) -> None:
    # 6 full batches in pieces of 17, 17 and 16 rows, and a last one of 33, which is run.
    spec = replace(MLP, precision=precision, max_steps=16)
    logged, weights = train(Seat(), spec)
    replayed, same, num_recordings, num_replays = train_on_tape(Seat(), graphed(spec))
    assert losses(replayed) == losses(logged)
    assert all(torch.equal(same[name], weight) for name, weight in weights.items())
    assert (num_recordings, num_replays) == (2, 3 * 14)


@pytest.mark.parametrize("spec", [CNN, TEXT, NORMED], ids=["cnn", "text", "batch_normed"])
def test_buffers_and_random_numbers_are_moved_once_a_step(spec: TrainSpec) -> None:
    spec = replace(spec, max_steps=9)
    logged, weights = train(Seat(), spec)
    replayed, same, _, _ = train_on_tape(Seat(), graphed(spec))
    assert losses(replayed) == losses(logged)
    assert all(torch.equal(same[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("spec", [MLP, CENTRED], ids=["mlp", "centred"])
def test_replicas_replay_what_ddp_computes(spec: TrainSpec) -> None:
    # Of 51 rows a worker has 26 or 25: each records its own forms, and in the last batch runs.
    spec = replace(spec, batch_size=51, accumulation=1, max_steps=9)
    plan = ParallelPlan(data=2)
    logged, weights = gloo.run(plan, train, spec)[0]
    replayed, same, num_recordings, num_replays = gloo.run(plan, train_on_tape, graphed(spec))[0]
    assert losses(replayed) == pytest.approx(losses(logged), abs=1e-6)
    for name, weight in weights.items():
        assert torch.allclose(same[name], weight, rtol=0, atol=1e-6), name
    assert (num_recordings, num_replays) == (1, 8)


def test_a_shape_too_many_is_run_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(2, 1)

    def passes(rows: tuple[torch.Tensor, ...], scale: torch.Tensor) -> torch.Tensor:
        loss = model(rows[0]).sum()
        torch.autograd.backward(loss * scale.to(loss.dtype))
        return loss.detach()

    tape = Tape()
    replays = Replays(model, passes, Cpu(), tape)
    for _ in range(2):
        for size in (3, 4, 5, 6):
            assert replays.takes((torch.ones(size, 2),), full=True, counts=True)
            replays.replay((torch.ones(size, 2),), 1.0)
        assert not replays.takes((torch.ones(7, 2),), full=True, counts=True)
    assert (tape.num_recordings, tape.num_replays) == (4, 8)
    told = "rows of shape (7, 2) run one operation at a time: 4 other shapes are recorded"
    assert [told in message for message in caplog.messages] == [True]


def test_sparse_gradients_are_refused_with_the_layers_that_make_them() -> None:
    flights = graphed(
        replace(
            MLP,
            model=Factory(call="tests.train.models:flights_network"),
            data=Factory(call="tests.train.models:flights"),
            loss="binary_cross_entropy",
        )
    )
    with pytest.raises(TrainingError, match=r"tables\.0, tables\.1, tables\.2 makes sparse grad"):
        Loop(flights, Seat(device=TapedCpu()))


def test_what_cannot_be_honoured_is_refused_before_anything_starts() -> None:
    with pytest.raises(
        ValueError, match="cuda_graphs is true and device cpu; set the first to fal"
    ):
        replace(MLP, cuda_graphs=True)
    with pytest.raises(ValueError, match="computed again reads the generator of random numbers"):
        graphed(MLP, activation_checkpointing=True)
    with pytest.raises(TrainingError, match="cuda_graphs is true, and this CPU has none: set it"):
        Loop(graphed(MLP), Seat())


@needs_gpu
class TestOnAGpu:
    """The same with real CUDA graphs."""

    @pytest.fixture
    def device(self) -> Device:
        return Cuda()

    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    @pytest.mark.parametrize("spec", [MLP, TEXT], ids=["mlp", "text"])
    def test_a_replayed_training_ends_as_one_that_ran(
        self, spec: TrainSpec, precision: Precision, device: Device
    ) -> None:
        spec = replace(spec, device="cuda", precision=precision, max_steps=16)
        logged, weights = train(Seat(device=device), spec)
        replayed, same = train(Seat(device=device), replace(spec, cuda_graphs=True))
        near = 1e-5 if precision == "fp32" else 2e-2
        assert losses(replayed) == pytest.approx(losses(logged), abs=near)
        for name, weight in weights.items():
            assert torch.allclose(same[name], weight, rtol=0, atol=near), name

    def test_two_inputs_give_two_results_both_right(self, device: Device) -> None:
        model = nn.Linear(3, 1).to(device.where)

        def passes(rows: tuple[torch.Tensor, ...], scale: torch.Tensor) -> torch.Tensor:
            loss = model(rows[0]).sum()
            torch.autograd.backward(loss * scale.to(loss.dtype))
            return loss.detach()

        replays = Replays(model, passes, device, device.recorder())
        for number in (1.0, 2.0):
            rows = (torch.full((4, 3), number, device=device.where),)
            expected = model(rows[0]).sum()
            assert torch.allclose(replays.replay(rows, 1.0), expected)

    def test_dropout_draws_anew_at_each_replay(self, device: Device) -> None:
        model = nn.Sequential(nn.Linear(64, 512), nn.Dropout(0.5)).to(device.where)

        def passes(rows: tuple[torch.Tensor, ...], scale: torch.Tensor) -> torch.Tensor:
            loss = model(rows[0]).sum()
            torch.autograd.backward(loss * scale.to(loss.dtype))
            return loss.detach()

        replays = Replays(model, passes, device, device.recorder())
        rows = (torch.ones(32, 64, device=device.where),)
        assert float(replays.replay(rows, 1.0)) != float(replays.replay(rows, 1.0))

    def test_what_reads_values_on_the_host_is_refused(self, device: Device) -> None:
        model = nn.Linear(3, 1).to(device.where)

        def passes(rows: tuple[torch.Tensor, ...], scale: torch.Tensor) -> torch.Tensor:
            loss = model(rows[0]).sum()
            return loss if float(loss) > 0 else -loss

        replays = Replays(model, passes, device, device.recorder())
        with pytest.raises(TrainingError, match="the model's passes cannot be recorded"):
            replays.replay((torch.ones(4, 3, device=device.where),), 1.0)
