"""Names of tensors: those that torch's own state dicts give them, under every plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)

from raymlops.train.loop.loop import Loop
from raymlops.train.loop.named import NamedPart
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from tests.train import gloo
from tests.train.specs import CNN, EXPERTS, MIXTURE, TEXT

OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True)


def differences(part: nn.Module, optimizer: torch.optim.Optimizer | None) -> list[str]:
    """The names of what is not as torch has it."""
    named = NamedPart(part, optimizer)
    model, state = get_model_state_dict(part), {}
    if optimizer is not None:
        state = get_optimizer_state_dict(part, optimizer, options=OPTIONS)
    return [
        name
        for ours, torchs in ((named.model(), model), (named.state(), state))
        for name in ours.keys() | torchs.keys()
        if not alike(ours.get(name), torchs.get(name))
    ]


def alike(ours: Any, torchs: Any) -> bool:
    if not isinstance(ours, torch.Tensor):
        return type(ours) is type(torchs) and bool(ours == torchs)
    return ours.shape == torchs.shape and torch.equal(local(ours), local(torchs))


def local(tensor: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def differences_after_training(seat: Seat, spec: TrainSpec) -> list[str]:
    loop = Loop(spec, seat)
    loop.run()
    return [name for pair in loop._updater.saved for name in differences(*pair)]


@pytest.mark.parametrize(
    ("spec", "plan"),
    [
        (EXPERTS, "data=2"),
        (TEXT, "shard=2,tensor=2"),
        (CNN, "data=2,pipeline=2,microbatches=2"),
        (MIXTURE, "shard=2"),
    ],
)
def test_names_are_torchs_under_every_plan(spec: TrainSpec, plan: str) -> None:
    found = gloo.run(
        ParallelPlan.parse(plan), differences_after_training, replace(spec, max_steps=2)
    )
    assert found == [[]] * len(found)


def test_an_optimizer_that_took_no_step_has_the_state_that_torch_makes_it() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = [parameter.clone() for parameter in model.parameters()]
    found = NamedPart(model, torch.optim.Adam(model.parameters())).state()
    assert torch.equal(found["state.1.weight.exp_avg"], torch.zeros(2))
    assert found["param_groups.0.bias.betas"] == (0.9, 0.999)
    assert all(map(torch.equal, before, model.parameters()))


class Counting(torch.optim.SGD):
    """Keeps what it counted within a state."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                counts = self.state[parameter].setdefault("counts", {"steps": {0: 0}})
                counts["steps"][0] += 1


def test_state_within_state_has_the_names_of_both_and_wrappers_have_none() -> None:
    model = nn.Sequential(checkpoint_wrapper(nn.Linear(3, 2, bias=False)))
    optimizer = Counting(model.parameters(), lr=0.5)
    optimizer.step()
    assert differences(model, optimizer) == []
    assert NamedPart(model, optimizer).state()["state.0.weight.counts.steps.0"] == 1


def test_what_a_name_stands_for_is_looked_up_each_time() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    named = NamedPart(model, optimizer)
    named.model(), named.state()
    model.register_buffer("later", torch.ones(1))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step()
    momentum = optimizer.state[model.bias]["momentum_buffer"]
    assert named.model()["later"].data_ptr() == model.later.data_ptr()
    assert named.state()["param_groups.bias.lr"] == 0.25
    assert named.state()["state.bias.momentum_buffer"] is momentum
