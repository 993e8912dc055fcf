from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from raymlops.train.generators import kept, seed_others
from raymlops.train.layouts.blocks import blocks_of
from raymlops.train.layouts.recomputed import recompute


class Centred(nn.Module):
    """Takes off a running mean, which goes on at each pass in training."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.5)
        return torch.tanh(self.scale(x) - self.mean)


def test_running_means_go_on_once_in_blocks_that_are_computed_again() -> None:
    """Twice as fast before; and what read them was computed again from others, so that its
    gradients were wrong."""
    torch.manual_seed(0)
    plain = nn.Sequential(Centred(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    again = deepcopy(plain)
    recompute(again, blocks_of(again), compiled=False, shares_norms=False)
    batches = torch.randn(3, 6, 4)
    for model in (plain, again):
        outputs = [model(batch) for batch in batches]  # as a pipeline, whose passes overlap
        for output in outputs:
            output.square().sum().backward()
    expected, found = plain.state_dict(), again.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert int(found["1.num_batches_tracked"]) == 3
    for ours, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-6)


class Scaled(nn.Module):
    """By what Python and numpy draw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = torch.tanh(self.layer(x * random.random()))
        return outputs * float(np.random.random())  # noqa: NPY002


def test_what_python_and_numpy_drew_is_drawn_again() -> None:
    """Gradients were those of other numbers, and what was drawn next skipped some."""
    torch.manual_seed(0)
    plain = nn.Sequential(Scaled(), Scaled())
    again = deepcopy(plain)
    recompute(again, blocks_of(again), compiled=False, shares_norms=False)
    batches = torch.randn(3, 6, 4)
    next_drawn = []
    for model in (plain, again):
        with kept():
            seed_others(0)
            for batch in batches:
                model(batch).square().sum().backward()
            next_drawn.append((random.random(), float(np.random.random())))  # noqa: NPY002
    assert next_drawn[0] == next_drawn[1]
    for ours, theirs in zip(again.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-6)
