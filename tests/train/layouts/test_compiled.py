"""Blocks that are compiled, or computed again, give the numbers of those that are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from raymlops.errors import PlanError
from raymlops.train import ParallelPlan
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.torch_backend import TorchBackend
from tests.endurance import endurance
from tests.train import gloo
from tests.train.layouts.training import reference, train
from tests.train.specs import TEXT

AGAIN: dict[str, Any] = {"activation_checkpointing": True}

COMPILED: dict[str, Any] = {"compile": "aot_eager"}


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        ("shard=2", {**AGAIN, **COMPILED}),
        ("tensor=2", AGAIN),  # which takes one of them, see below
        endurance("data=2", {**AGAIN, **COMPILED}),
        endurance("pipeline=2,microbatches=2", {**AGAIN, **COMPILED}),
        endurance("pipeline=2,microbatches=4,schedule=interleaved_zero_bubble", COMPILED),
        endurance("pipeline=2,microbatches=4,schedule=zbv_zero_bubble", COMPILED),
        endurance("tensor=2", COMPILED),
    ],
)
def test_blocks_computed_again_and_compiled_give_the_same_numbers(
    plan: str, changes: dict[str, Any]
) -> None:
    spec = replace(TEXT, max_steps=3)
    expected, weights, _ = reference(spec)
    logged, together, _ = gloo.run(ParallelPlan.parse(plan), train, replace(spec, **changes))[0]
    assert [values["loss"] for values in logged] == pytest.approx(
        [values["loss"] for values in expected], abs=1e-5
    )
    for name, weight in weights.items():
        assert torch.allclose(together[name], weight, rtol=0, atol=1e-5), name


def test_sliced_layers_are_compiled_or_computed_again() -> None:
    plan, limits = ParallelPlan(tensor=2), Limits(max_workers=2, batch_size=8)
    for changes in (AGAIN, COMPILED):
        require(plan, TorchBackend(replace(TEXT, **changes)).limits(plan, limits))
    both = TorchBackend(replace(TEXT, **AGAIN, **COMPILED))
    with pytest.raises(PlanError, match="compile is aot_eager and activation_checkpointing true,"):
        require(plan, both.limits(plan, limits))


def test_stages_are_compiled_where_all_backward_passes_go_alike() -> None:
    """Torch ended such a training by an error of its own, in the middle of the first step."""
    limits = Limits(max_workers=2, batch_size=8)
    for changes, schedule in ((COMPILED, "zbv_zero_bubble"), ({}, "dualpipe_v")):
        plan = ParallelPlan(pipeline=2, microbatches=4, schedule=schedule)
        require(plan, TorchBackend(replace(TEXT, **changes)).limits(plan, limits))
    plan = ParallelPlan(pipeline=2, microbatches=4, schedule="dualpipe_v")
    compiled = TorchBackend(replace(TEXT, **COMPILED))
    with pytest.raises(PlanError, match=r"compile is aot_eager, .* as schedule dualpipe_v does"):
        require(plan, compiled.limits(plan, limits))
