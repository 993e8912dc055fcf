"""What the rounds of an average bring to whom, between processes."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from raymlops.train.compression.base import Gather, Scatter
from raymlops.train.compression.exchange import Exchange
from tests.train.ranks import run_ranks

# Nothing, less than a segment, several of them and a rest.
SIZES = (0, 1, 700_001)


def payload(size: int, giver: int, taker: int) -> Tensor:
    """Bytes that tell who gave them to whom, and in which order."""
    return (torch.arange(size) * (1 + giver) + 100 * taker).to(torch.uint8)


def _swapped(size: int) -> tuple[bool, bool, int]:
    """Whether a worker gathers, and is scattered, what it ought to; how much it has sent."""
    group = dist.group.WORLD
    assert group is not None
    exchange = Exchange(group)
    mine, workers = exchange.seat.rank, range(exchange.seat.world_size)

    def rounds() -> Generator[Gather | Scatter, list[Tensor], tuple[list[Tensor], list[Tensor]]]:
        gathered = yield Gather(payload(size, mine, 0))
        # The last worker is given nothing, as where a vector has fewer elements than workers.
        scattered = yield Scatter([payload(_size_for(to, size), mine, to) for to in workers])
        return gathered, scattered

    gathered, scattered = exchange.run(rounds())
    own = _size_for(mine, size)
    return (
        all(torch.equal(found, payload(size, giver, 0)) for giver, found in enumerate(gathered)),
        all(torch.equal(found, payload(own, giver, mine)) for giver, found in enumerate(scattered)),
        exchange.sent_bytes,
    )


def _size_for(worker: int, size: int) -> int:
    return 0 if worker == 2 else size


@pytest.mark.parametrize("size", SIZES)
def test_every_worker_gets_what_each_of_the_others_has_for_it(size: int) -> None:
    found = run_ranks(3, _swapped, size)

    assert [each[:2] for each in found] == [(True, True)] * 3
    # Two payloads are gathered; one or two are given to workers that get any.
    assert [each[2] for each in found] == [3 * size, 3 * size, 4 * size]
