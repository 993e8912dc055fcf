"""Weights whose gradient is rounding alone, of which Adam makes whole steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from raymlops.train import ParallelPlan
from raymlops.train.spec import OptimizerSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo, models
from tests.train.layouts.training import reference, train
from tests.train.specs import TEXT

KEYS = [f"blocks.{number}.attention.k_proj.bias" for number in range(2)]


def biased() -> nn.Module:
    """A transformer that adds something to queries, keys and values, as many do."""
    model = models.transformer(width=16, num_blocks=2)
    for block in model.get_submodule("blocks").children():
        attention = block.get_submodule("attention")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(attention, name, nn.Linear(16, 16))
    return model


BIASED = replace(TEXT, model=Factory(call=f"{__name__}:biased"))


def test_what_is_added_to_all_keys_changes_nothing() -> None:
    """It adds the same to all scores of a query, which softmax takes off again."""
    torch.manual_seed(0)
    model = biased()
    tokens = torch.from_numpy(models.text(4).columns[0])
    before = model(tokens)
    before.square().sum().backward()
    for name in KEYS:
        bias = model.get_parameter(name)
        query = model.get_parameter(name.replace("k_proj", "q_proj"))
        assert bias.grad is not None
        assert query.grad is not None
        assert bias.grad.abs().max() < 1e-5 * query.grad.abs().max()
        bias.detach().add_(torch.randn(16))
    assert torch.allclose(model(tokens), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("plan", ["data=2", endurance("shard=2"), endurance("tensor=2")])
@pytest.mark.parametrize(("eps", "but"), [(1e-8, KEYS), (1e-6, [])])
def test_adam_takes_rounding_for_a_gradient_unless_eps_is_above_it(
    plan: str, eps: float, but: list[str]
) -> None:
    """So that docs are true of what differs from one process, and of the way out."""
    spec = replace(BIASED, optimizer=OptimizerSpec(arguments={"eps": eps}))
    _, weights, _ = reference(spec)
    _, together, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    for name in weights.keys() - set(but):
        assert torch.allclose(together[name], weights[name], rtol=0, atol=1e-5), name
