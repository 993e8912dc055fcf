"""Carries out the rounds of an average in a process group."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from raymlops.train.compression.base import Gather, Scatter, Seat, Sum

Result = TypeVar("Result")

_SEGMENT_BYTES = 1 << 18  # 20 ms on 100 Mbit/s


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
                return self._scatter(payloads)

    def _sum(self, tensor: Tensor) -> Tensor:
        # A ring sends each part once to be summed and once to be known.
        others = self.seat.world_size - 1
        self.sent_bytes += 2 * others * tensor.nbytes // self.seat.world_size
        dist.all_reduce(tensor, group=self._group)
        return tensor

    def _gather(self, payload: Tensor) -> list[Tensor]:
        ranks = range(self.seat.world_size)
        found = [payload if rank == self.seat.rank else torch.empty_like(payload) for rank in ranks]
        self._swap([payload] * self.seat.world_size, found)
        return found

    def _scatter(self, payloads: Sequence[Tensor]) -> list[Tensor]:
        own, ranks = payloads[self.seat.rank], range(self.seat.world_size)
        found = [own if rank == self.seat.rank else torch.empty_like(own) for rank in ranks]
        self._swap(payloads, found)
        return found

    def _swap(self, outgoing: Sequence[Tensor], incoming: Sequence[Tensor]) -> None:
        """Sends each other worker what is its own, and fills what comes from each.

        A sender of gloo waits until its receiver says that it is ready, on the connection on which
        that one sends as well: said behind a megabyte, it is heard when that has arrived, and the
        two directions of a link take turns. So all say it first, and send in segments.
        """
        others = [rank for rank in range(self.seat.world_size) if rank != self.seat.rank]
        swaps = [
            *(each for rank in others for each in self._pieces(dist.irecv, incoming[rank], rank)),
            *(each for rank in others for each in self._pieces(dist.isend, outgoing[rank], rank)),
        ]
        self.sent_bytes += sum(outgoing[rank].nbytes for rank in others)
        for work in dist.batch_isend_irecv(swaps) if swaps else ():
            work.wait()

    def _pieces(self, verb: Callable[..., Any], payload: Tensor, peer: int) -> Iterator[dist.P2POp]:
        for tag, piece in enumerate(torch.split(payload, _SEGMENT_BYTES)):
            yield dist.P2POp(verb, piece, group=self._group, group_peer=peer, tag=tag)
