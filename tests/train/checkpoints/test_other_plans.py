"""What is saved under one plan goes on under another, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raymlops.train import ParallelPlan
from raymlops.train.spec import CheckpointPolicy, OptimizerSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.cutting import DROPPING, RESTORED_ALONE, merged, same_bits, train, train_alone
from tests.train.specs import MLP, TEXT


class Repeated(torch.nn.Module):
    """One block three times, so that its parameters have three names each."""

    def __init__(self) -> None:
        super().__init__()
        block = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
        self.blocks = torch.nn.ModuleList([block, block, block])
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.mark.parametrize(
    "plans",
    [
        ("data=2,tensor=2", "pipeline=2,microbatches=2", "data=1"),
        ("data=2,server=2", "shard=2"),
        endurance(("data=2,tensor=2", "shard=4", "tensor=2")),
        endurance(("shard=2,pipeline=2,microbatches=2", "pipeline=3,microbatches=3", "data=1")),
        endurance(("data=2,server=2", "server=1")),
        endurance(("data=2,server=3,sync=stale", "data=2", "data=2,server=1")),
        endurance(("data=2", "data=2,server=2")),
    ],
    ids=" ".join,
)
def test_a_checkpoint_of_one_plan_is_loaded_under_others_bit_by_bit(
    plans: tuple[str, ...], tmp_path: Path
) -> None:
    spec = replace(TEXT, max_steps=6, checkpoints=CheckpointPolicy(every_steps=6))
    saved, *loaded = (gloo.run(ParallelPlan.parse(plan), train, spec, tmp_path) for plan in plans)
    for plan, ranks in zip(plans[1:], loaded, strict=True):
        assert ranks[0]["losses"] == {}  # all steps are done
        assert same_bits(merged(ranks), merged(saved)), plan


@RESTORED_ALONE
def test_a_module_of_several_names_goes_on_under_any_plan(tmp_path: Path) -> None:
    """Stages of a pipeline knew the first alone, and torch gave back the first alone to DDP."""
    factory = Factory(call="tests.train.checkpoints.test_other_plans:Repeated")
    spec = replace(MLP, model=factory, checkpoints=CheckpointPolicy(every_steps=1), max_steps=1)
    for step, plan in enumerate(("pipeline=2,microbatches=2", "data=2"), start=1):
        going_on = replace(spec, max_steps=step)
        ranks = gloo.run(ParallelPlan.parse(plan), train, going_on, tmp_path)
        assert sorted(ranks[0]["losses"]) == [step], plan
    _, weights = train_alone(going_on, tmp_path)
    assert weights.keys() == Repeated().state_dict().keys()


def test_sparse_momentum_goes_on_at_a_server_and_comes_back(tmp_path: Path) -> None:
    spec = replace(
        MLP,
        model=Factory(call="tests.train.checkpoints.test_going_on:Looked"),
        optimizer=OptimizerSpec(name="sgd", learning_rate=0.01, arguments={"momentum": 0.9}),
        checkpoints=CheckpointPolicy(every_steps=1),
    )
    for step, plan in enumerate(("data=2", "data=2,server=1", "data=2"), start=1):
        going_on = replace(spec, max_steps=step)
        ranks = gloo.run(ParallelPlan.parse(plan), train, going_on, tmp_path)
        assert sorted(ranks[0]["losses"]) == [step], plan


def test_no_row_is_seen_twice_or_skipped_by_another_number_of_workers(tmp_path: Path) -> None:
    policy = CheckpointPolicy(every_steps=3)
    spec = replace(DROPPING, epochs=1, max_steps=None, checkpoints=policy)
    first = gloo.run(ParallelPlan(data=2), train, replace(spec, max_steps=3), tmp_path)
    rest = gloo.run(ParallelPlan(shard=3), train, spec, tmp_path)
    seen = np.concatenate([rank["rows"] for rank in first + rest])
    assert sorted(seen) == list(range(333))
    assert len(np.concatenate([rank["rows"] for rank in first])) == 150
