"""What is refused of a sliced model before its layers are replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.layouts.slicing import slice_layers
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TensorSpec
from tests.train.models import Transformer


class Short(Transformer):
    """Takes sequences of 15 tokens."""

    def __init__(self) -> None:
        super().__init__(16, 4, 2)
        self.positions = nn.Parameter(torch.zeros(15, 16))


def test_sequences_that_workers_cannot_share_out_are_refused() -> None:
    """Messages of two sizes killed a worker, which had no time to say so."""
    no_mesh: Any = "which nothing is sent over"
    seat = Seat(plan=ParallelPlan(tensor=2), mesh=no_mesh)
    rows = torch.zeros(2, 15, dtype=torch.int64)
    with pytest.raises(TrainingError, match="tensor is 2, which does not divide the length 15 of"):
        slice_layers(Short(), TensorSpec(sequence=True), seat, (rows,))
