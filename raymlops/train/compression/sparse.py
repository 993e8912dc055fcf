"""A part of the elements, as they are; error feedback sends the others when they have grown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raymlops.train.compression.base import (
    Averaged,
    Compressor,
    Gather,
    Gradient,
    Memory,
    Rounds,
    Seat,
    Sum,
    drawing,
    size_of,
    to_bytes,
)


@dataclass(frozen=True)
class _Sparse(Compressor):
    ratio: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"ratio is {self.ratio}, not within (0, 1]")

    def _count(self, size: int) -> int:
        """How many of `size` elements are sent."""
        return min(size, max(1, round(self.ratio * size)))


@dataclass(frozen=True)
class TopK(_Sparse):
    """The largest elements by absolute value, 8 bytes each: an int32 index and a float32.

    Workers choose different ones, so each sends its own to all others, (n - 1) payloads (A. F. Aji
    and K. Heafield, Sparse Communication for Distributed Gradient Descent, 2017).
    """

    def compress(self, gradient: Gradient, memory: Memory) -> Tensor:
        vector = gradient.vector
        # Of NaN topk says that nothing is larger.
        _, chosen = vector.abs().topk(self._count(len(vector)), sorted=False)
        return to_bytes(chosen.to(torch.int32), vector[chosen])

    def decompress(self, payload: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        vector = payload.new_zeros(size_of(shapes), dtype=torch.float32)
        self._add(vector, payload)
        return vector

    def average(self, gradient: Gradient, memory: Memory, seat: Seat) -> Rounds:
        payload = self.compress(gradient, memory)
        payloads: list[Tensor] = yield Gather(payload)
        mean = torch.zeros_like(gradient.vector)
        for each in payloads:
            self._add(mean, each)
        mean /= seat.world_size
        return Averaged(mean=mean, own=self.decompress(payload, gradient.shapes))

    def _add(self, vector: Tensor, payload: Tensor) -> None:
        chosen, values = payload.clone().tensor_split(2)
        vector.index_add_(0, chosen.view(torch.int32), values.view(torch.float32))


@dataclass(frozen=True)
class RandomK(_Sparse):
    """One element at random of each of k stretches of equal length, 4 bytes each.

    The choice follows from seed and step, so that it needs no bytes, is the same on all workers,
    and their elements can be summed as they are. (S. U. Stich et al., Sparsified SGD with Memory,
    2018, where the k are not spread evenly.)
    """

    seed: int = 0

    def compress(self, gradient: Gradient, memory: Memory) -> Tensor:
        step = torch.tensor([memory.step], dtype=torch.int64)
        return to_bytes(step, self._values(gradient.vector, memory.step))

    def decompress(self, payload: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        step = int(payload[:8].clone().view(torch.int64))
        return self._spread(payload[8:].clone().view(torch.float32), size_of(shapes), step)

    def average(self, gradient: Gradient, memory: Memory, seat: Seat) -> Rounds:
        size = len(gradient.vector)
        values = self._values(gradient.vector, memory.step)
        own = self._spread(values, size, memory.step)
        total: Tensor = yield Sum(values)
        return Averaged(mean=self._spread(total / seat.world_size, size, memory.step), own=own)

    def _values(self, vector: Tensor, step: int) -> Tensor:
        values = vector[self._chosen(len(vector), step)]
        # What is not finite may be among the others.
        return values if bool(vector.isfinite().all()) else torch.full_like(values, torch.nan)

    def _spread(self, values: Tensor, size: int, step: int) -> Tensor:
        vector = values.new_zeros(size)
        vector[self._chosen(size, step)] = values
        return vector

    def _chosen(self, size: int, step: int) -> Tensor:
        count = self._count(size)
        ends = torch.arange(count + 1) * size // max(1, count)
        first, length = ends[:-1], ends.diff()
        within = torch.rand(count, generator=drawing(self.seed, step), dtype=torch.float64) * length
        return first + within.long()
