"""What cannot be trained is told before anything starts, half a minute sooner than by a worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raymlops.errors import TrainingError
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.feasibility import Limits
from raymlops.train.spec import OptimizerSpec, ScheduleSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.torch_backend import TorchBackend
from tests.train.specs import MLP

COPIES, SLICES = ParallelPlan(data=2), ParallelPlan(tensor=2)


def limits_of(plan: ParallelPlan, **changes: Any) -> Limits:
    backend = TorchBackend(replace(MLP, **changes))
    return backend.limits(plan, Limits(max_workers=2, batch_size=50))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": Factory(call="tests.train.models:mpl")},
        {"data": Factory(call="tests.train.models:mpl")},
        {"loss": Factory(call="tests.train.models:mpl")},
        {"optimizer": OptimizerSpec(name="tests.train.models:mpl")},
        {"schedule": ScheduleSpec(name="tests.train.models:mpl")},
    ],
)
def test_a_function_that_is_not_there_is_told_before_anything_starts(
    changes: dict[str, Any],
) -> None:
    """A worker told it, half a minute later."""
    with pytest.raises(
        TrainingError, match=r"there is no tests\.train\.models:mpl: module .* has no"
    ):
        limits_of(ParallelPlan(), **changes)


def test_an_argument_that_a_function_does_not_take_is_told_before_anything_starts() -> None:
    """A worker told it, half a minute later and below a traceback."""
    misspelt = replace(MLP.model, arguments={**MLP.model.arguments, "widht": 8})
    with pytest.raises(TrainingError, match=r"mlp takes no argument 'widht'.* \(it takes .*\)"):
        limits_of(ParallelPlan(), model=misspelt)


def lazy() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10))


def frozen() -> torch.nn.Module:
    return torch.nn.Linear(64, 10).requires_grad_(False)


def of_numbers(*, width: int) -> torch.nn.Module:
    """A model whose first weights come from numpy, as do those of many a pretrained one."""
    start = np.asarray(torch.rand(10, width))
    model = torch.nn.Sequential(torch.nn.Linear(width, 10, bias=False), torch.nn.Linear(10, 10))
    model[0].weight.data = torch.from_numpy(start)
    return model


def missized() -> torch.nn.Module:
    return torch.nn.Linear("64", 10)  # type: ignore[arg-type]  # as a file may say


def elsewhere() -> torch.nn.Module:
    raise OSError("/data of the workers is not here")


def sgd(parameters: Any, *, lr: float, friction: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=1 - friction)


HERE = "tests.train.spec.test_before_start"


@pytest.mark.parametrize("plan", [ParallelPlan(), COPIES, SLICES])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": Factory(call=f"{HERE}:lazy")}, r"1\.weight, 1\.bias have no size before its"),
        ({"model": Factory(call=f"{HERE}:frozen")}, "there is nothing to train; leave requires_"),
        (
            {"model": Factory(call=f"{HERE}:of_numbers")},
            r"of_numbers needs an argument 'width' \(it takes width\), and arguments give none",
        ),
        (
            {"optimizer": OptimizerSpec(name=f"{HERE}:sgd")},
            r"sgd needs an argument 'friction' .*, and arguments give lr: add it",
        ),
        (
            {"optimizer": OptimizerSpec(name=f"{HERE}:sgd", arguments={"fiction": 0.1})},
            "sgd takes no argument 'fiction'; did you mean 'friction'",
        ),
        ({"compile": "inductr"}, "compile is inductr, of which .*; did you mean 'inductor'"),
    ],
)
def test_a_model_that_cannot_be_trained_is_told_before_anything_starts(
    plan: ParallelPlan, changes: dict[str, Any], told: str
) -> None:
    """Under one process and copies a worker told it, half a minute later."""
    with pytest.raises(TrainingError, match=told):
        limits_of(plan, **changes)


def test_a_model_that_looks_at_its_numbers_may_be_sliced() -> None:
    """It ended with numpy's TypeError: there are no numbers where its shape is looked at."""
    numbers = Factory(call=f"{HERE}:of_numbers", arguments={"width": 64})
    assert limits_of(SLICES, model=numbers).divisible
    assert limits_of(COPIES, model=numbers).max_workers == 2


def test_what_a_function_raises_is_told_with_its_place() -> None:
    with pytest.raises(TrainingError, match=r"missized makes no model: TypeError.*in missized, .*"):
        limits_of(SLICES, model=Factory(call=f"{HERE}:missized"))


def test_a_model_that_can_be_made_by_workers_alone_is_left_to_them() -> None:
    assert limits_of(COPIES, model=Factory(call=f"{HERE}:elsewhere")).max_workers == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"momentum": 0.9}, "unexpected keyword"), ({"betas": [0.9, 1.5]}, "Invalid beta parameter")],
)
def test_arguments_an_optimizer_does_not_take_are_told_before_anything_starts(
    arguments: dict[str, Any], told: str
) -> None:
    """A worker failed on them."""
    adam = OptimizerSpec(name="adam", arguments=arguments)
    with pytest.raises(TrainingError, match=f"optimizer adam does not take arguments .*{told}"):
        limits_of(ParallelPlan(), optimizer=adam)
