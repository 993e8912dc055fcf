"""Carries out the rounds of an average in a process group."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from raymlops.train.compression.base import Gather, Scatter, Seat, Sum

Result = TypeVar("Result")


class Exchange:
    """Answers rounds by collectives of `group`, and counts what they send."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.seat = Seat(rank=dist.get_rank(group), world_size=dist.get_world_size(group))
        self.sent_bytes = 0
        """What this worker has sent: payloads, without the headers of the network."""

    def run(self, rounds: Generator[Sum | Gather | Scatter, Any, Result]) -> Result:
        try:
            request = next(rounds)
            while True:
                request = rounds.send(self._answer(request))
        except StopIteration as ended:
            result: Result = ended.value
            return result

    def _answer(self, request: Sum | Gather | Scatter) -> Tensor | list[Tensor]:
        match request:
            case Sum(tensor):
                return self._sum(tensor)
            case Gather(payload):
                return self._gather(payload)
            case Scatter(payloads):
                return self._scatter(list(payloads))

    def _sum(self, tensor: Tensor) -> Tensor:
        # A ring sends each part once to be summed and once to be known.
        others = self.seat.world_size - 1
        self.sent_bytes += 2 * others * tensor.nbytes // self.seat.world_size
        dist.all_reduce(tensor, group=self._group)
        return tensor

    def _gather(self, payload: Tensor) -> list[Tensor]:
        self.sent_bytes += (self.seat.world_size - 1) * payload.nbytes
        found = [torch.empty_like(payload) for _ in range(self.seat.world_size)]
        dist.all_gather(found, payload, group=self._group)
        return found

    def _scatter(self, payloads: list[Tensor]) -> list[Tensor]:
        sizes = [len(payload) for payload in payloads]
        mine = sizes[self.seat.rank]
        self.sent_bytes += sum(sizes) - mine
        found = payloads[0].new_empty(mine * self.seat.world_size)
        expected = [mine] * self.seat.world_size
        dist.all_to_all_single(found, torch.cat(payloads), expected, sizes, group=self._group)
        return list(torch.split(found, mine)) if mine else [found] * self.seat.world_size
