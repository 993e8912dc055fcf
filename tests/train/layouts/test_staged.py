"""Stages of a pipeline: where they begin, and what they draw."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raymlops.errors import PlanError
from raymlops.train import ParallelPlan
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import PipelineSpec, TrainSpec
from raymlops.train.spec.factory import Factory
from raymlops.train.torch_backend import TorchBackend
from tests.train import gloo, models
from tests.train.specs import MLP, TEXT


class Noted(torch.nn.Dropout):
    """Keeps what it dropped last."""

    dropped: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = super().forward(x)
        self.dropped = (y == 0).detach()
        return y


def dropping_twice() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), Noted(), torch.nn.Linear(32, 32), Noted(), torch.nn.Linear(32, 10)
    )


def dropped(seat: Seat, spec: TrainSpec) -> list[torch.Tensor]:
    from raymlops.train.loop.loop import Loop

    loop = Loop(spec, seat)
    loop.run()
    found = (module for part in loop.parts for module in part.modules())
    return [module.dropped for module in found if isinstance(module, Noted)]


def test_stages_drop_different_values() -> None:
    """The first dropout of each stage once dropped the same ones."""
    spec = replace(
        MLP,
        model=Factory(call=f"{__name__}:dropping_twice"),
        pipeline=PipelineSpec(starts=("0", "2")),
        accumulation=1,
        max_steps=1,
    )
    plan = ParallelPlan.parse("pipeline=2,microbatches=1,schedule=gpipe")
    (first,), (second,) = gloo.run(plan, dropped, spec)
    assert first.shape == second.shape == (50, 32)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("starts", "told"),
    [(("0", "9"), "no stage can begin at 9; the blocks are 0, 1,"), (("1", "0"), "begin at 1, 0;")],
)
def test_stages_that_begin_nowhere_are_refused_before_a_run(
    starts: tuple[str, ...], told: str
) -> None:
    """Workers ended with it."""
    spec = replace(MLP, pipeline=PipelineSpec(starts=starts))
    plan, limits = ParallelPlan(pipeline=2, microbatches=2), Limits(max_workers=2, batch_size=50)
    with pytest.raises(PlanError, match=f"the model cannot be cut: .*{told}"):
        require(plan, TorchBackend(spec).limits(plan, limits))


def tied() -> models.Transformer:
    model = models.Transformer(16, 4, 2)
    model.head.weight = model.tokens.weight
    return model


def test_weights_that_keep_a_model_in_one_piece_are_named() -> None:
    """That it has but one block was all that was said of it."""
    spec = replace(TEXT, model=Factory(call="tests.train.layouts.test_staged:tied"))
    plan, limits = ParallelPlan(pipeline=2, microbatches=2), Limits(max_workers=2, batch_size=8)
    with pytest.raises(PlanError) as caught:
        require(plan, TorchBackend(spec).limits(plan, limits))
    assert (
        "the model has 1 blocks to share out: what reads tokens.weight is one, with all "
        "between, since a parameter lives in one stage; give each place a parameter of its own, or "
        "use tensor or shard"
    ) in str(caught.value)
