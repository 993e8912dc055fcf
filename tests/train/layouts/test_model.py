"""Models whose passes change something, or see the rows of one worker alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raymlops.errors import PlanError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.model import build_model, outline
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.factory import Factory
from raymlops.train.torch_backend import TorchBackend
from tests.train import cutting, gloo
from tests.train.cutting import EVERY_5
from tests.train.layouts.training import train
from tests.train.models import mlp
from tests.train.specs import MLP

OWN = """
import torch

SCALE = torch.randn(2)


def model():
    made = torch.nn.Linear(2, 2)
    made.scale = SCALE
    return made
"""


@pytest.mark.parametrize("outlined", [False, True])
def test_first_weights_do_not_depend_on_who_imports_their_module(
    outlined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the module drew when the model was made for the first time shifted its weights, and
    its own tensors had no numbers where the model was first looked at without."""
    name = f"own_model_{outlined}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    spec = replace(MLP, model=Factory(call=f"{name}:model"))
    if outlined:
        outline(spec)
    first, again = build_model(spec), build_model(spec)
    assert torch.equal(first.weight, again.weight)  # type: ignore[arg-type]
    assert not first.scale.is_meta  # type: ignore[union-attr]


class Expanded(torch.nn.Module):
    """Has a mask whose rows lie at one place in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()
        self.register_buffer("mask", torch.ones(64).expand(2, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x * self.mask[0])  # type: ignore[index, no-any-return]


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_model_with_an_expanded_buffer_is_resumed(tmp_path: Path) -> None:
    spec = replace(
        MLP, model=Factory(call="tests.train.layouts.test_model:Expanded"), checkpoints=EVERY_5
    )
    interrupted = replace(spec, max_steps=6)
    cutting.train(Seat(), interrupted, tmp_path / "cut")
    going_on = cutting.train(Seat(), spec, tmp_path / "cut")  # torch could not write the mask
    whole = cutting.train(Seat(), spec, tmp_path / "whole")
    assert cutting.same_bits(going_on, whole)


def test_a_model_with_an_expanded_buffer_is_copied() -> None:
    spec = replace(MLP, model=Factory(call="tests.train.layouts.test_model:Expanded"), max_steps=2)
    _, weights, _ = gloo.run(ParallelPlan(data=2), train, spec)[0]
    assert torch.equal(weights["mask"], torch.ones(2, 64))


class Growing(torch.nn.Module):
    """Has a table as long as the longest row it has seen, as some keep angles of places."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self.register_buffer("table", torch.zeros(0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.length:
            self.length = x.shape[1]
            self.register_buffer("table", torch.arange(x.shape[1]) / 2, persistent=False)
        return x * self.table[: x.shape[1]]


def test_tables_that_grow_in_a_pass_stay() -> None:
    """Trying such a model, as several workers do, ended in an error about shapes."""
    model = Growing()
    with untouched(model):
        model(torch.ones(2, 3))
    assert torch.equal(model(torch.ones(1, 3)), torch.tensor([[0.0, 0.5, 1.0]]))


class Bounded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(17, 4, max_norm=0.5)
        self.head = torch.nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.table((x * 16).long()).flatten(1))
        return outputs


def test_rows_that_change_as_they_are_looked_up_are_not_shared_out() -> None:
    """Copies of the table drifted apart, shards and servers kept rows longer than their norm."""
    spec = replace(MLP, model=Factory(call=f"{__name__}:Bounded"))
    limits = Limits(max_workers=8, batch_size=50)
    told = r"table has max_norm 0\.5, which changes rows as they are looked up"
    for text in ("shard=2", "data=2,server=1", "data=2,pipeline=2"):
        plan = ParallelPlan.parse(text)
        with pytest.raises(PlanError, match=told):
            require(plan, TorchBackend(spec).limits(plan, limits))
    plan = ParallelPlan(pipeline=2, microbatches=2)
    require(plan, TorchBackend(spec).limits(plan, limits))
    with pytest.raises(RuntimeError, match=told):
        gloo.run(ParallelPlan(data=2), train, spec)
