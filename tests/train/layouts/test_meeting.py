"""Workers whose rows decide which way a pass goes, where it takes all of them to gather a block."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from raymlops.train import ParallelPlan
from raymlops.train.layouts.base import Rows
from raymlops.train.layouts.meeting import looks_at_rows
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.factory import Factory
from tests.endurance import endurance
from tests.train import gloo
from tests.train.layouts.training import reference, train
from tests.train.models import mlp, transformer
from tests.train.specs import MLP

Way = Callable[[torch.Tensor], object]


class Asking(nn.Module):
    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way, self.layer = way, nn.Linear(3, 3)
        self.register_buffer("known", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.way(self.layer(x))
        outputs: torch.Tensor = self.layer(x)
        return outputs


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (lambda x: bool(x.mean() > 0), True),
        (lambda x: x.argmax(1).max().item(), True),
        (lambda x: (x > 0).nonzero(), True),
        (lambda x: x[x > 0], True),
        (lambda x: torch.where(x > 0)[0], True),
        (lambda x: torch.where(x > 0, x, 0.0), False),
        (lambda x: x[torch.tensor([0, 0])] * (x > 0)[:1], False),
        (lambda x: bool(torch.ones(3).any()) and x.shape[0] > 9, False),
    ],
)
def test_whether_a_pass_looks_at_its_rows(way: Way, expected: bool) -> None:
    rows = Rows(inputs=(torch.ones(2, 3),), targets=torch.zeros(2, dtype=torch.int64))
    assert looks_at_rows(Asking(way), rows, nullcontext) is expected


def test_a_transformer_does_not_look() -> None:
    tokens = torch.zeros(2, 16, dtype=torch.int64)
    assert not looks_at_rows(transformer(), Rows(inputs=(tokens,), targets=tokens), nullcontext)


class Blocks(nn.Module):
    """Looks at its rows, and goes through all of its blocks but where it `skips`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = self.skips(x)
        x = self.first(x)
        for number, block in enumerate(self.blocks):
            x = x if skips and number == 1 else x + torch.relu(block(x))
        outputs: torch.Tensor = self.last(x)
        return outputs

    def skips(self, x: torch.Tensor) -> bool:
        return bool(x.mean() > 0.32)  # some pieces of a batch are so bright, and not the first rows


class Unused(Blocks):
    """Computes all, and uses what the rows decide."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = self.skips(x)
        x = self.first(x)
        for number, block in enumerate(self.blocks):
            more = torch.relu(block(x))
            x = x if skips and number == 1 else x + more
        outputs: torch.Tensor = self.last(x)
        return outputs


class Together(Blocks):
    """Skips where the last batch is short, as all workers do."""

    def skips(self, x: torch.Tensor) -> bool:
        workers = dist.get_world_size() if dist.is_initialized() else 1
        return bool(x.isfinite().all()) and 2 < len(x) <= 12 / workers  # not the first rows


class Dim(nn.Module):
    """A layer beside the blocks is for dim rows, of which some pieces have none."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.dim = mlp(), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.blocks(x)
        rows = (x.mean(1) < 0.31).nonzero()[:, 0]
        return outputs.index_add(0, rows, self.dim(x[rows])) if len(rows) else outputs


def of(model: type[nn.Module]) -> TrainSpec:
    return replace(MLP, model=Factory(call=f"{__name__}:{model.__name__}"))


DIM = replace(of(Dim), batch_size=4, accumulation=1)


@pytest.mark.parametrize("plan", ["shard=2", endurance("data=2,shard=2")])
@pytest.mark.parametrize(
    ("model", "told"),
    [
        (Blocks, "workers go different ways: worker 0 at blocks.[12], worker 1 at blocks.[12]"),
        (Unused, "loss of some workers' rows reaches blocks.1, and that of others' does not; rows"),
    ],
)
def test_workers_that_part_end(plan: str, model: type[nn.Module], told: str) -> None:
    """gloo killed them, who had got half of another block's weights; or they trained on with such
    weights, or waited for ever."""
    with pytest.raises(RuntimeError, match=f"TrainingError: .*{told}"):
        gloo.run(ParallelPlan.parse(plan), train, of(model))


@pytest.mark.parametrize(
    ("spec", "plan"),
    [(of(Together), "shard=2"), (DIM, "shard=2"), endurance(DIM, "data=2,shard=2")],
    ids=["together", "dim", "copies"],
)
def test_ways_that_workers_can_go_have_the_numbers_of_one_process(
    spec: TrainSpec, plan: str
) -> None:
    """Where workers used other parameters of what is gathered at once, gloo killed one."""
    _, expected, _ = reference(spec)
    _, weights, _ = gloo.run(ParallelPlan.parse(plan), train, spec)[0]
    for name, weight in expected.items():
        assert torch.allclose(weights[name], weight, rtol=0, atol=1e-5), name
