"""Compressors that give each element fewer bits: any part of a vector can go by itself.

    Scatter: each worker gets its piece from all, and averages it      r0: a0 b0   r1: a1 b1
    Gather:  each worker gives its mean, compressed again, to all      mean a      mean b

Each worker sends 2 (n - 1) / n payloads, as a ring would, however many workers there are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from raymlops.train.compression.base import (
    Averaged,
    Compressor,
    Gather,
    Gradient,
    Memory,
    Rounds,
    Scatter,
    Seat,
    size_of,
)


class Elementwise(Compressor):
    """A compressor given by what it does to a vector of any length."""

    @abstractmethod
    def encode(self, vector: Tensor) -> Tensor:
        """The payload, uint8 [bytes]; its length depends on the vector's alone."""

    @abstractmethod
    def decode(self, payload: Tensor, size: int) -> Tensor:
        """The vector [size]."""

    def compress(self, gradient: Gradient, memory: Memory) -> Tensor:
        return self.encode(gradient.vector)

    def decompress(self, payload: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        return self.decode(payload, size_of(shapes))

    def average(self, gradient: Gradient, memory: Memory, seat: Seat) -> Rounds:
        pieces = gradient.vector.tensor_split(seat.world_size)
        payloads = [self.encode(piece) for piece in pieces]
        own = torch.cat([self.decode(p, len(v)) for p, v in zip(payloads, pieces, strict=True)])
        size = len(pieces[seat.rank])
        received: list[Tensor] = yield Scatter(payloads)
        total = torch.zeros_like(pieces[seat.rank])
        for payload in received:
            total += self.decode(payload, size)
        exact = total / seat.world_size
        longest = len(pieces[0])  # payloads that are gathered have one length
        mine = self.encode(torch.nn.functional.pad(exact, (0, longest - size)))
        gathered: list[Tensor] = yield Gather(mine)
        mean = torch.cat(
            [self.decode(p, longest)[: len(v)] for p, v in zip(gathered, pieces, strict=True)]
        )
        # The second rounding is this worker's: it is what all would have to make good otherwise.
        first = sum(len(piece) for piece in pieces[: seat.rank])
        own[first : first + size] -= (exact - mean[first : first + size]) * seat.world_size
        return Averaged(mean=mean, own=own)
