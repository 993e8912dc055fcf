"""What workers tell each other from their seats."""

from __future__ import annotations

import torch

from raymlops.train import ParallelPlan
from raymlops.train.seat import Seat
from tests.train import gloo


def aligned(seat: Seat) -> list[torch.Tensor]:
    mine = 1 + seat.rank
    columns = torch.full((2, 3), float(mine)).T  # not contiguous
    tensors = [
        torch.tensor(mine),
        torch.tensor([mine == 1, True]),
        torch.tensor([mine * 1j]),
        torch.empty(0),
        columns,
    ]
    seat.align(tensors)
    return tensors


def test_replicas_take_over_tensors_of_any_kind_from_the_first() -> None:
    expected = [
        torch.tensor(1),
        torch.tensor([True, True]),
        torch.tensor([1j]),
        torch.empty(0),
        torch.ones(3, 2),
    ]
    for found in gloo.run(ParallelPlan(data=2), aligned):
        assert all(map(torch.equal, found, expected))
