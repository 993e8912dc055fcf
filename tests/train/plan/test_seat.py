"""What workers tell each other from their seats."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from raymlops.train import ParallelPlan
from raymlops.train.plan.seat import Seat
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


def sizes_of_messages(seat: Seat) -> list[int]:
    sizes, broadcast = [], dist.broadcast
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            dist, "broadcast", lambda sent, **to: (sizes.append(len(sent)), broadcast(sent, **to))
        )
        aligned(seat)
        seat.align([])
    return sizes


def test_replicas_take_over_all_of_them_in_one_message() -> None:
    assert gloo.run(ParallelPlan(data=2), sizes_of_messages) == [[8 + 2 + 8 + 6 * 4]] * 2


def begun(seat: Seat) -> tuple[float, float]:
    number = torch.tensor(1.0 + seat.rank)
    total = seat.begin_total(number)
    number.add_(10)
    seat.meet()  # what others say meanwhile is not mixed up with it
    return total(), float(number)


def test_a_sum_is_of_what_a_number_was_when_it_began() -> None:
    assert gloo.run(ParallelPlan(data=2), begun) == [(3.0, 11.0), (3.0, 12.0)]


def test_stages_and_replicas_draw_numbers_of_their_own_and_slices_the_same() -> None:
    plan = ParallelPlan(data=2, tensor=2, pipeline=2)
    streams = [Seat(plan=plan, rank=rank).stream for rank in range(8)]
    by_place = {
        (at["data"], at["pipeline"], at["tensor"]): stream
        for at, stream in zip(map(plan.coordinates, range(8)), streams, strict=True)
    }
    assert [by_place[place] for place in sorted(by_place)] == [0, 0, 2, 2, 1, 1, 3, 3]
