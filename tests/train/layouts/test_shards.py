"""What is gathered one by one, and what cannot be sharded at all."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from raymlops.train import ParallelPlan
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.shards import gathered
from raymlops.train.plan.feasibility import Limits, problems
from raymlops.train.spec.factory import Factory
from raymlops.train.torch_backend import TorchBackend
from tests.train.models import mlp
from tests.train.specs import MLP

PLAN = ParallelPlan(shard=2)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.scale = mlp(), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.mlp(x)


class Looked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(17, 4, sparse=True), nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.table((x * 16).long()).flatten(1))


class TwoTypes(nn.Module):
    """In blocks of one type each, with a head of another."""

    def __init__(self, head: torch.dtype) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64).double()])
        self.head = nn.Linear(64, 10).to(head)
        self.norm = nn.LayerNorm(64)


def of_two_types() -> nn.Module:
    return TwoTypes(torch.float64)


def of_one_type_a_block() -> nn.Module:
    return TwoTypes(torch.float32)


def channels_last() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten()).to(memory_format=torch.channels_last)


def refusals(model: str) -> tuple[str, ...]:
    spec = replace(MLP, model=Factory(call=f"tests.train.layouts.test_shards:{model}"))
    limits = Limits(max_workers=8, batch_size=64)
    return problems(PLAN, TorchBackend(spec).limits(PLAN, limits))


def test_what_cannot_be_sharded_is_refused_before_a_run() -> None:
    """Workers ended with what torch says of it."""
    (told,) = refusals("Scaled")
    assert told.startswith("shard is 2, but scale is a single number, which has no rows to share")
    (told,) = refusals("Looked")
    assert told.startswith("shard is 2, but table has sparse=True, and shards take dense gradients")
    (told,) = refusals("channels_last")
    assert told.startswith("shard is 2, but 0.weight lies in memory with strides [18, 1, 6, 2]")
    (told,) = refusals("of_two_types")
    assert told.startswith("shard is 2, but head.weight is torch.float64 and norm.weight torch.flo")
    assert refusals("of_one_type_a_block") == refusals("mlp") == ()


def test_blocks_that_share_a_parameter_are_gathered_with_the_whole() -> None:
    """torch ended the run: a parameter is managed in one place."""
    model = nn.ModuleDict(
        {"blocks": nn.ModuleList(nn.Linear(3, 3) for _ in range(4)), "head": nn.Linear(3, 3)}
    )
    blocks = blocks_of(model)
    first, second, third, fourth = blocks.values()
    second.weight = first.weight
    third.bias = model["head"].bias
    assert list(gathered(model, blocks, PLAN)) == [fourth]


def test_a_block_that_shares_within_itself_is_gathered_on_its_own() -> None:
    block = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    block[1].weight = block[0].weight
    model = nn.ModuleList([block, block])
    assert list(gathered(model, blocks_of(model), PLAN)) == [block]
