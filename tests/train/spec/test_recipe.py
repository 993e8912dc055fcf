"""Optimizers and schedules as a spec names them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train.spec import OptimizerSpec, ScheduleSpec
from raymlops.train.spec.recipe import make_optimizer, make_schedule


def test_rates_rise_and_fall_as_described() -> None:
    cosine = make_schedule(ScheduleSpec(name="cosine", warmup_steps=3), num_steps=11)
    assert [cosine(step) for step in range(3)] == [0.25, 0.5, 0.75]
    assert cosine(3) == 1.0
    assert cosine(7) == pytest.approx(0.5)
    assert cosine(11) == pytest.approx(0.0)
    linear = make_schedule(ScheduleSpec(name="linear", final_share=0.2), num_steps=8)
    assert [linear(step) for step in (0, 4, 8)] == pytest.approx([1.0, 0.6, 0.2])
    assert make_schedule(ScheduleSpec(), num_steps=8)(7) == 1.0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_optimizers_take_their_own_arguments(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    spec = OptimizerSpec(name=name, learning_rate=0.5, arguments={"weight_decay": 0.25})
    (group,) = make_optimizer(spec, [weight]).param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_an_optimizer_that_runs_the_model_itself_is_refused() -> None:
    """Its first step ended in a TypeError about a closure."""
    weight = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(
        TrainingError, match=r"optimizer torch\.optim:LBFGS runs the model as often"
    ):
        make_optimizer(OptimizerSpec(name="torch.optim:LBFGS"), [weight])
    make_optimizer(OptimizerSpec(name="torch.optim:NAdam"), [weight])


def shares(given: Any = math.nan) -> Callable[[int], Any]:
    return lambda step: given if step == 3 else 0.5


def uphill() -> Callable[[int], Any]:
    return shares(-1.0)


def nothing() -> Callable[[int], Any]:
    return shares(None)


@pytest.mark.parametrize("name", ["shares", "uphill", "nothing"])
def test_a_schedule_of_ones_own_gives_shares_of_a_rate(name: str) -> None:
    """Rates below 0 were taken, no number made weights none, and a server died of no value."""
    schedule = make_schedule(ScheduleSpec(name=f"{__name__}:{name}"), num_steps=9)
    assert schedule(2) == 0.5
    with pytest.raises(TrainingError, match=f":{name} gives (nan|-1.0|None) at step 3, counted"):
        schedule(3)
