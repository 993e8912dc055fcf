"""Rows that a model does not take: torch told of two matrices, deep in a worker."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raymlops.data.loading import ArraySource
from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.limits import propose_plan
from raymlops.train.loop.loop import Loop
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.specs import MLP

OF_64_FLOATS = (
    "its layer 0 (Linear) takes 64 values (in_features) and is given 60, of float32 [2, 60]"
)


def rows(dtype: str = "float32", shape: tuple[int, ...] = (64,)) -> ArraySource:
    return ArraySource([np.zeros((40, *shape), dtype), np.zeros(40, np.int64)])


def spec_of(model: str, **data: Any) -> TrainSpec:
    given = Factory(call=f"{__name__}:rows", arguments=data)
    return replace(MLP, model=Factory(call=model), data=given, accumulation=1)


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 10))


def lookup() -> nn.Module:
    return nn.Sequential(nn.Embedding(8, 4), nn.Flatten(), nn.Linear(256, 10))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.layer(x)
        raise RuntimeError("of its own")


def run(seat: Seat, spec: TrainSpec) -> None:
    Loop(spec, seat).run()


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        (
            "tests.train.models:mlp",
            {"dtype": "float64"},
            "its layer 0 (Linear) takes float32 and is given float64 [2, 64]: let the data give it,"
            " as by astype('float32'), or have the model convert it",
        ),
        ("tests.train.models:mlp", {"shape": (60,)}, OF_64_FLOATS),
        (
            f"{__name__}:convolution",
            {"shape": (1, 3, 3)},
            "its layer 0 (Conv2d) takes 3 values (in_channels) and is given 1,",
        ),
        (
            f"{__name__}:lookup",
            {},
            "its layer 0 (Embedding) looks up whole numbers and is given float32 [2, 64]",
        ),
    ],
)
def test_the_layer_that_does_not_take_the_rows_is_named(
    model: str, data: dict[str, Any], told: str
) -> None:
    with pytest.raises(TrainingError, match=re.escape(told)) as caught:
        run(Seat.take(ParallelPlan()), spec_of(model, **data))
    assert str(caught.value).startswith(f"{model} does not take the rows of {__name__}:rows: ")


@pytest.mark.parametrize(
    "plan",
    ["data=2", "tensor=2", endurance("shard=2"), endurance("pipeline=2,microbatches=2")],
)
def test_it_is_named_under_every_layout(plan: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(OF_64_FLOATS)):
        gloo.run(ParallelPlan.parse(plan), run, spec_of("tests.train.models:mlp", shape=(60,)))


def test_it_is_named_where_a_plan_is_proposed() -> None:
    spec = spec_of("tests.train.models:mlp", shape=(60,))
    with pytest.raises(TrainingError, match=re.escape("is given 60, of float32 [1, 60]")):
        propose_plan(spec, max_workers=2, memory_bytes=2**30)


def test_what_a_model_raises_by_itself_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="of its own"):
        run(Seat.take(ParallelPlan()), spec_of(f"{__name__}:Broken"))
