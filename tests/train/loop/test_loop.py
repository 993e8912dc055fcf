"""The loop is that of plain torch, in any precision, from any step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raymlops.train.checkpoints.checkpoints import Checkpoints
from raymlops.train.loop.batches import pieces
from raymlops.train.loop.loop import Loop
from raymlops.train.loop.scale import LossScale
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import CheckpointPolicy, OptimizerSpec, ScheduleSpec
from raymlops.train.spec.factory import Factory
from tests.train import models
from tests.train.loop.fitting import PLAIN, fit


def test_the_loop_is_that_of_plain_torch() -> None:
    spec = replace(
        PLAIN,
        clip_norm=0.5,
        optimizer=OptimizerSpec(name="sgd", learning_rate=0.5, arguments={"momentum": 0.9}),
        schedule=ScheduleSpec(name="linear"),
    )
    logged, trained, _ = fit(spec)

    torch.manual_seed(0)
    model = models.mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 14)
    train, validation = models.digits(333, 101)
    assert validation is not None
    losses = []
    for epoch in (1, 2):
        order = np.random.default_rng((0, epoch)).permutation(333)
        for start in range(0, 333, 50):
            images, labels = map(torch.from_numpy, train.take(order[start : start + 50]))
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            scheduler.step()
            losses.append(float(loss.detach()))
    assert [v["loss"] for v in logged if "loss" in v] == pytest.approx(losses, abs=1e-5)
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    images, labels = map(torch.from_numpy, validation.take(np.arange(101)))
    expected = float(torch.nn.functional.cross_entropy(model(images).detach(), labels))
    assert logged[-1]["validation_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_what_full_precision_learns(precision: str) -> None:
    spec = replace(PLAIN, epochs=6, optimizer=OptimizerSpec(learning_rate=1e-2))
    full, _, _ = fit(spec)
    lower, model, _ = fit(replace(spec, precision=precision))  # type: ignore[arg-type]
    assert full[-1]["validation_loss"] < 0.6
    assert lower[-1]["validation_loss"] == pytest.approx(full[-1]["validation_loss"], abs=0.05)
    assert lower[-1]["validation_loss"] != full[-1]["validation_loss"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_loss_scale_moves_as_torchs_own() -> None:
    overflows = {3, 4, 2500}
    theirs = torch.amp.GradScaler("cpu")
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    ours = LossScale.first("fp16")
    for step in range(4700):
        finite = step not in overflows
        theirs.scale(weight.sum())
        weight.grad = torch.tensor([1.0 if finite else math.inf])
        theirs.step(optimizer)
        theirs.update()
        ours = ours.after("fp16", finite=finite)
        assert ours.value == theirs.get_scale(), step


class Bag(torch.nn.Module):
    """Each row of digits uses a few rows of a table several times."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.table = torch.nn.EmbeddingBag(17, 8, mode="mean", sparse=sparse)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.table((rows * 16).long()))
        return outputs


def test_rows_of_a_table_learn_from_sparse_gradients_what_they_learn_from_dense_ones() -> None:
    """Every use of a row was a step of its own: they were 7e-5 apart, with momentum 4e-4."""
    rolling = OptimizerSpec(name="sgd", learning_rate=0.1, arguments={"momentum": 0.9})
    dense, sparse = (
        fit(
            replace(PLAIN, optimizer=rolling, model=Factory(call=f"{__name__}:Bag", arguments=kind))
        )
        for kind in ({"sparse": False}, {"sparse": True})
    )
    for ours, theirs in zip(sparse[1].parameters(), dense[1].parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def slow_head(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The last layer learns at a tenth of the rate."""
    *body, weight, bias = parameters
    return torch.optim.SGD([{"params": body}, {"params": [weight, bias], "lr": lr / 10}], lr=lr)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # nobody else restores
@pytest.mark.parametrize("interrupted", [False, True])
def test_groups_of_parameters_keep_rates_of_their_own(interrupted: bool, tmp_path: Path) -> None:
    spec = replace(
        PLAIN,
        optimizer=OptimizerSpec(name="tests.train.loop.test_loop:slow_head", learning_rate=0.5),
        schedule=ScheduleSpec(name="tests.train.updaters.training:falling"),
        checkpoints=CheckpointPolicy(every_steps=1),
        max_steps=8,
    )
    for most in [3, 8] if interrupted else [8]:  # what is restored has the rates of its step
        checkpoints = Checkpoints(tmp_path, spec.checkpoints, Seat())
        loop = Loop(replace(spec, max_steps=most), Seat(), checkpoints=checkpoints)
        loop.run()

    torch.manual_seed(0)
    model = models.mlp()
    optimizer = slow_head(model.parameters(), 0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    train, _ = models.digits(333)
    orders = [np.random.default_rng((0, epoch)).permutation(333) for epoch in (1, 2)]
    for rows in [*np.split(orders[0], range(50, 333, 50)), orders[1][:50]]:
        images, labels = map(torch.from_numpy, train.take(rows))
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
        scheduler.step()
    for ours, theirs in zip(loop.parts[0].parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # nobody else restores
def test_an_epoch_that_was_read_at_the_last_step_is_ended(tmp_path: Path) -> None:
    """A training that was cut off there had no loss of its last epoch."""
    spec = replace(PLAIN, checkpoints=CheckpointPolicy(every_steps=7), max_steps=7)
    told: list[Mapping[str, float]] = []
    ends: list[Mapping[str, float]] = []
    for _ in range(2):  # the second goes on from the last step, before the end of its epoch
        checkpoints = Checkpoints(tmp_path, spec.checkpoints, Seat())
        loop = Loop(
            spec, Seat(), checkpoints=checkpoints, log=lambda values, step: told.append(values)
        )
        progress = loop.run()
        assert (progress.step, progress.epoch, progress.batch) == (7, 2, 0)
        ends.append(told[-1])
    assert ends[0].keys() == {"train_loss", "validation_loss"}
    assert ends[0] == ends[1]
    assert len(told) == 7 + 1 + 1


def test_pieces_part_the_rows_evenly() -> None:
    assert list(pieces(3, 2)) == [slice(0, 2), slice(2, 3)]
    assert list(pieces(1, 3)) == [slice(0, 1), slice(1, 1), slice(1, 1)]
