from __future__ import annotations

import math

import torch

from raymlops.train.plan.seat import Seat
from raymlops.train.updaters import clipping


def test_gradients_are_no_numbers_as_soon_as_one_of_them_is_not() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        weight = torch.nn.Parameter(torch.zeros(3, 4, dtype=dtype))
        weight.grad = torch.full_like(weight, torch.finfo(torch.float16).max)
        table = torch.nn.Embedding(5, 2, sparse=True, dtype=dtype)
        table(torch.tensor([1, 1, 3])).sum().backward()
        parameters = [weight, *table.parameters(), torch.nn.Parameter(torch.zeros(1))]
        assert clipping.total_sum(parameters, Seat()) == 12 * 65504 + 6
        for broken in (math.inf, -math.inf, math.nan):
            weight.grad[1, 2] = broken
            assert not math.isfinite(clipping.total_sum(parameters, Seat()))


def test_complex_gradients_are_clipped_and_looked_through_as_two_numbers_each() -> None:
    """Their norm had no type to be taken in, and of their sum the imaginary part was dropped."""
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    weight.grad = torch.tensor([3j, 4])
    assert clipping.total_norm([weight], Seat()) == 5.0
    assert clipping.total_sum([weight], Seat()) == 7.0
    clipping.scale_gradients([weight], 0.5)
    assert weight.grad.tolist() == [1.5j, 2]
    weight.grad[1] = complex(0, math.nan)
    assert math.isnan(clipping.total_sum([weight], Seat()))
