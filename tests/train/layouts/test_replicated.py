"""Copies that average their gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from raymlops.train import ParallelPlan
from raymlops.train.spec.factory import Factory
from tests.train import gloo
from tests.train.layouts.training import train
from tests.train.specs import MLP


class Ending(nn.Module):
    """Has no use for its spare layer from the third pass on."""

    num_passes: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spare, self.last = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.register_buffer("num_passes", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.num_passes < 2:
            x = x + self.spare(x)
        self.num_passes += self.training
        outputs: torch.Tensor = self.last(x)
        return outputs


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_layer_that_copies_did_not_expect_to_miss_ends_the_run(accumulation: int) -> None:
    """Torch noticed at the next pass: if none came, each worker ended with weights of its own."""
    spec = replace(
        MLP,
        model=Factory(call=f"{__name__}:Ending"),
        accumulation=accumulation,
        max_steps=3 if accumulation == 1 else 1,
    )
    with pytest.raises(
        RuntimeError, match=r"loss does not reach .* in a pass, and did on the first"
    ):
        gloo.run(ParallelPlan(data=2), train, spec)
