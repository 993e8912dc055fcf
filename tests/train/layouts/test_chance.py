"""Passes whose way through a model is drawn, by each worker for itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.base import Rows
from raymlops.train.layouts.chance import find_chance
from raymlops.train.spec import TensorSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.layouts.training import train
from tests.train.specs import MLP

ROWS = Rows(inputs=(torch.ones(2, 64),), targets=torch.zeros(2, dtype=torch.int64))
Skips = Callable[[torch.Tensor], object]


class Drawn(nn.Module):
    """Leaves out its second layer where `skips` says so."""

    def __init__(self, skips: Skips) -> None:
        super().__init__()
        self.skips = skips
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        outputs: torch.Tensor = x if self.skips(x) else self.second(x)
        return outputs


class NoisyExperts(nn.Module):
    """Rows go where a score says that has noise added."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x[:, :2] + torch.randn_like(x[:, :2])
        outputs = x
        for number, expert in enumerate(self.experts):
            rows = (scores.argmax(1) == number).nonzero()[:, 0]
            outputs = outputs.index_add(0, rows, expert(x[rows]))
        return outputs


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Drawn(lambda _: torch.rand(()) < 1e-9), True),
        (Drawn(lambda _: torch.empty(3).uniform_()[1].item() > 2), True),
        (Drawn(lambda _: torch.randint(9, (), generator=torch.Generator()) < 0), True),
        (Drawn(lambda _: random.random() > 2), True),
        (Drawn(lambda _: np.random.random() > 2), True),  # noqa: NPY002  # as some models do
        (NoisyExperts(), True),
        (Drawn(lambda x: x.isnan().any()), False),
        (Drawn(lambda x: (x * torch.rand(2, 1).bernoulli_(0.9)) is None), False),
        (nn.Sequential(nn.Dropout(), Drawn(lambda x: x.isnan().any())), False),
        (nn.TransformerEncoderLayer(64, 4, 64, batch_first=True), False),
    ],
)
def test_whether_a_pass_goes_its_way_by_chance(model: nn.Module, expected: bool) -> None:
    before = torch.get_rng_state()
    assert find_chance(model, ROWS, nullcontext).decides is expected
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("draw", [random.random, np.random.random])  # as some models do
def test_what_a_tensor_group_does_not_share_is_refused(draw: Callable[[], float]) -> None:
    """Its workers met at different sums, and gloo ended their processes; or they went on with other
    activations than each other."""
    model = Drawn(lambda _: draw() > 2)
    found = find_chance(model, ROWS, nullcontext)
    found.require_shared(ParallelPlan(shard=2), model)
    with pytest.raises(
        TrainingError, match="forward of Drawn draws from the random numbers of Pyt"
    ):
        found.require_shared(ParallelPlan(tensor=2), model)
    drawn = Drawn(lambda _: torch.rand(()) > 2)
    find_chance(drawn, ROWS, nullcontext).require_shared(ParallelPlan(tensor=2), drawn)


def noisy() -> nn.Module:
    return nn.Sequential(Drawn(lambda _: random.random() > 2), nn.ReLU(), nn.Linear(64, 10))


def test_no_training_begins_with_what_a_tensor_group_does_not_share() -> None:
    spec = replace(
        MLP,
        model=Factory(call=f"{__name__}:noisy"),
        tensor=TensorSpec(slices={"0.first": "column", "0.second": "row"}),
    )
    with pytest.raises(RuntimeError, match="TrainingError: the forward of Sequential draws"):
        gloo.run(ParallelPlan(tensor=2), train, spec)


class LayerDrop(nn.Module):
    """Leaves out one block in twenty: the first passes go through all (A. Fan et al., 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            if not (self.training and torch.rand(()) < 0.05):
                x = x + torch.relu(block(x))
        outputs: torch.Tensor = self.last(x)
        return outputs


class NormedLayerDrop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropped, self.norm = LayerDrop(), nn.BatchNorm1d(10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.norm(self.dropped(x))
        return outputs


DROPPING = replace(MLP, model=Factory(call=f"{__name__}:LayerDrop"))


@pytest.mark.parametrize("plan", ["shard=2", endurance("data=2,tensor=2")])
def test_blocks_may_be_left_out_by_chance(plan: str) -> None:
    """Workers of a shard met at different blocks: they waited for each other for ever, or computed
    with half of the weights of one block and half of those of another. Copies ended with an error
    of torch."""
    expected, weights, _ = gloo.run(ParallelPlan(data=2), train, DROPPING)[0]
    logged, together, _ = gloo.run(ParallelPlan.parse(plan), train, DROPPING)[0]
    curves = [
        [values["loss"] for values in each if "loss" in values] for each in (logged, expected)
    ]
    assert len(curves[0]) == 20
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)  # workers draw the same in both
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def test_norms_among_what_is_left_out_wait_for_nobody() -> None:
    spec = replace(DROPPING, model=Factory(call=f"{__name__}:NormedLayerDrop"))
    logged, _, _ = gloo.run(ParallelPlan(data=2), train, spec)[0]
    assert len([values for values in logged if "loss" in values]) == 20
