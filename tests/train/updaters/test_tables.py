"""Rows of tables go by key."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import embedding

from raymlops.errors import TrainingError
from raymlops.train import Factory, OptimizerSpec, ParallelPlan
from raymlops.train.plan.seat import Seat
from tests.train import gloo, models
from tests.train.specs import FLIGHTS, MLP
from tests.train.updaters.training import ALONE, assert_close, losses, norms, train, warned


@pytest.mark.parametrize(
    ("optimizer", "plan", "clip_norm"),
    [
        (OptimizerSpec(name="adagrad", learning_rate=0.1), "data=2,server=2", None),
        (OptimizerSpec(name="sgd", learning_rate=0.5), "data=2,server=2", 0.05),
        (OptimizerSpec(name="sgd", learning_rate=0.5), "data=4,server=3", None),
    ],
)
def test_sparse_rows_go_by_key_and_equal_one_process(
    optimizer: OptimizerSpec, plan: str, clip_norm: float | None
) -> None:
    spec = replace(FLIGHTS, optimizer=optimizer, clip_norm=clip_norm)
    alone, expected = gloo.run(ALONE, train, spec)[0]
    weights, logged = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    assert_close(weights, alone)
    assert losses(logged) == pytest.approx(losses(expected), abs=1e-5)
    assert norms(logged) == pytest.approx(norms(expected), abs=1e-5)
    assert losses(logged)[-1] < losses(logged)[0]
    if clip_norm is not None:
        assert min(norms(logged)) > clip_norm


def test_rows_are_pulled_before_a_compiled_lookup() -> None:
    """The call of the server was compiled with the model, and failed."""
    spec = replace(FLIGHTS, max_steps=8)
    compiled = replace(spec, compile="aot_eager")
    weights, _ = gloo.run(ParallelPlan.parse("data=2,server=2"), train, compiled)[0]
    assert_close(weights, gloo.run(ALONE, train, spec)[0][0])


class Rare(nn.Module):
    """Looks its table up for batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.rare = nn.Linear(64, 10), nn.Embedding(4, 10, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.body(x)
        return outputs + self.rare((10 * x.mean(1)).long() % 4) if len(x) > 2 else outputs


def test_a_table_that_the_first_rows_do_not_reach_is_not_warned_of() -> None:
    """Its rows rest, and it was said that the server's adam moves them."""
    model = Factory(call="tests.train.updaters.test_tables:Rare")
    spec = replace(MLP, model=model, optimizer=OptimizerSpec(name="adam"), max_steps=3)
    _, told = warned(Seat(plan=ParallelPlan(server=1)), spec)
    assert not told


def test_rows_that_momentum_moves_in_one_process_only_are_warned_of() -> None:
    """Weights were others by up to 0.06 after 200 steps, without a word."""
    optimizer = OptimizerSpec(name="sgd", learning_rate=0.05, arguments={"momentum": 0.9})
    spec = replace(FLIGHTS, optimizer=optimizer, max_steps=8)
    alone, _ = gloo.run(ALONE, train, spec)[0]
    (weights, told), (_, others) = gloo.run(ParallelPlan(data=2, server=1), warned, spec)
    (once,) = told
    assert "rows of tables.0.weight, tables.1.weight, tables.2.weight as they are" in once
    assert not others
    assert not torch.allclose(weights["tables.2.weight"], alone["tables.2.weight"], atol=1e-4)


class Aside(nn.Module):
    """Uses the table of destinations as `how` says, beside its lookups."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.network, self.how = models.flights_network(), how

    def forward(self, codes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        table = self.network.tables[2]
        outputs: torch.Tensor = self.network(codes, numbers)
        if self.how == "whole":
            return outputs + table.weight.square().sum()
        others = (codes[:, 2] + 40) % 96
        found = (
            table(others) if self.how == "called" else embedding(others, table.weight, sparse=True)
        )
        return outputs + found.sum(1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("function", "reaches rows of network.tables.2.weight"),
        ("whole", "reaches network.tables.2"),
    ],
)
def test_rows_that_were_not_looked_up_are_told(how: str, message: str) -> None:
    """They were old: weights were others by up to 0.02 after 30 steps, without a word."""
    model = Factory(call="tests.train.updaters.test_tables:Aside", arguments={"how": how})
    with pytest.raises(TrainingError, match=f"{message}.*; look all up by calling it"):
        train(Seat(plan=ParallelPlan(server=1)), replace(FLIGHTS, model=model, max_steps=3))


def test_a_table_may_be_looked_up_several_times() -> None:
    model = Factory(call="tests.train.updaters.test_tables:Aside", arguments={"how": "called"})
    spec = replace(FLIGHTS, model=model, accumulation=2, max_steps=8)
    weights, _ = gloo.run(ParallelPlan(data=2, server=2), train, spec)[0]
    assert_close(weights, gloo.run(ALONE, train, spec)[0][0])
