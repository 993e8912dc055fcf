"""What all layouts of whole models have in common: when they tell the loss."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from raymlops.train.layouts.base import Rows, Whole
from raymlops.train.loop.loop import Loop
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import StoppingPolicy
from tests.train import gloo
from tests.train.specs import MLP


def test_the_loss_is_told_before_gradients_are_computed() -> None:
    model = nn.Linear(2, 1)
    told = []
    layout = Whole(model, lambda outputs, targets: (outputs - targets).sum())
    rows = Rows(inputs=(torch.ones(3, 2),), targets=torch.ones(3, 1))
    layout.backward(
        rows, scale=2.0, last=True, tell=lambda loss: told.append((float(loss), model.weight.grad))
    )
    with torch.no_grad():
        assert told == [(float((model(torch.ones(3, 2)) - 1).sum()), None)]
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[6.0, 6.0]]


def train_with_an_infinite_loss(seat: Seat) -> tuple[int, int, list[float]]:
    """Of the third step and the last worker alone, where gradients are numbers all the same."""
    spec = replace(
        MLP,
        accumulation=1,
        clip_norm=None,
        max_steps=3,
        stopping=StoppingPolicy(on_nan="skip", max_skips=3),
    )
    loop, calls = Loop(spec, seat), [0]
    compute = loop._layout._loss

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return compute(outputs, targets) + (math.inf if calls[0] == 3 and seat.rank == 1 else 0.0)

    loop._layout._loss = loss
    progress = loop.run()
    return progress.skips, progress.uncounted_rows, weights_of(loop)


def weights_of(loop: Loop) -> list[float]:
    return [float(p.detach().sum()) for part in loop.parts for p in part.parameters()]


def train_two_steps(seat: Seat) -> list[float]:
    loop = Loop(replace(MLP, accumulation=1, clip_norm=None, max_steps=2), seat)
    loop.run()
    return weights_of(loop)


def test_a_loss_that_one_worker_alone_has_not_skips_the_step_of_all() -> None:
    plan = ParallelPlan(data=2)
    before = gloo.run(plan, train_two_steps)[0]
    assert gloo.run(plan, train_with_an_infinite_loss) == [(1, 50, before)] * 2
