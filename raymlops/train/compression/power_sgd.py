"""Low-rank gradients."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raymlops.train.compression.base import (
    Averaged,
    Compressor,
    Gradient,
    Memory,
    Rounds,
    Seat,
    Sum,
    drawing,
    size_of,
    to_bytes,
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class PowerSGD(Compressor):
    """P Q' of rank `rank` for each matrix [rows, columns], by one step of subspace iteration.

    It starts from the Q of the step before. Parameters for which P and Q have no fewer elements,
    such as biases, are sent as they are; filters [out, in, ...] are matrices [out, in * ...].
    (T. Vogels et al., PowerSGD, 2019, algorithm 1.)
    """

    rank: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it is at least 1")

    def compress(self, gradient: Gradient, memory: Memory) -> Tensor:
        parts = gradient.parts(gradient.vector)
        plain = [part for part in parts if not self._is_low(part.shape)]
        factors = []
        for name, matrix in self._matrices(gradient, gradient.vector):
            p = _orthogonal(matrix @ self._start(name, matrix, memory))
            q = matrix.T @ p
            if bool(q.isfinite().all()):
                memory.tensors[name] = q
            factors += [p, q]
        return to_bytes(*plain, *factors)

    def decompress(self, payload: Tensor, shapes: Sequence[Shape]) -> Tensor:
        numbers = payload.clone().view(torch.float32)
        low = [shape for shape in shapes if self._is_low(shape)]
        plain = [shape for shape in shapes if not self._is_low(shape)]
        raw, rest = torch.split(numbers, [size_of(plain), len(numbers) - size_of(plain)])
        ps, qs = [], []
        for shape in low:
            rows, columns = _as_matrix(shape)
            p, q, rest = torch.split(
                rest,
                [
                    rows * self.rank,
                    columns * self.rank,
                    len(rest) - (rows + columns) * self.rank,
                ],
            )
            ps.append(p.view(rows, self.rank))
            qs.append(q.view(columns, self.rank))
        return self._assembled(shapes, raw, ps, qs)

    def average(self, gradient: Gradient, memory: Memory, seat: Seat) -> Rounds:
        raw = torch.cat(
            [
                part.reshape(-1)
                for part in gradient.parts(gradient.vector)
                if not self._is_low(part.shape)
            ]
            or [gradient.vector.new_empty(0)]
        )
        named = list(self._matrices(gradient, gradient.vector))
        starts = [matrix @ self._start(name, matrix, memory) for name, matrix in named]
        total: Tensor = yield Sum(_flat([raw, *starts]))
        if not bool(total.isfinite().all()):  # on all workers alike: no second round
            lost = torch.full_like(gradient.vector, torch.nan)
            return Averaged(mean=lost, own=lost)
        mean_raw, *sums = _unflat(total, [raw, *starts])
        if not named:
            return Averaged(mean=mean_raw / seat.world_size, own=raw)
        ps = [_orthogonal(each) for each in sums]
        own_qs = [matrix.T @ p for (_, matrix), p in zip(named, ps, strict=True)]
        total_q: Tensor = yield Sum(_flat(own_qs))
        qs = [each / seat.world_size for each in _unflat(total_q, own_qs)]
        memory.tensors |= {name: q for (name, _), q in zip(named, qs, strict=True)}
        return Averaged(
            mean=self._assembled(gradient.shapes, mean_raw / seat.world_size, ps, qs),
            own=self._assembled(gradient.shapes, raw, ps, own_qs),
        )

    def _is_low(self, shape: Sequence[int]) -> bool:
        if len(shape) < 2:
            return False
        rows, columns = _as_matrix(shape)
        return self.rank * (rows + columns) < rows * columns

    def _matrices(self, gradient: Gradient, vector: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, part in zip(gradient.names, gradient.parts(vector), strict=True):
            if self._is_low(part.shape):
                yield name, part.reshape(_as_matrix(part.shape))

    def _start(self, name: str, matrix: Tensor, memory: Memory) -> Tensor:
        """The Q of the step before, or one at random, the same on all workers.

        Of that Q the space counts alone. It is as large as a gradient, whose product with it would
        pass float32 above 1e19, and vanish below 1e-19: a power of two, which float32 holds, takes
        it towards 1, and changes no other bit.
        """
        known = memory.tensors.get(name)
        if known is not None:
            exponent = torch.frexp(known.abs().max()).exponent.clamp(min=-126)
            return torch.ldexp(known, -exponent)
        generator = drawing(self.seed, zlib.crc32(name.encode()))
        return torch.randn(matrix.shape[1], self.rank, generator=generator)

    def _assembled(
        self, shapes: Sequence[Shape], raw: Tensor, ps: Sequence[Tensor], qs: Sequence[Tensor]
    ) -> Tensor:
        factors = iter(zip(ps, qs, strict=True))
        plain = iter(torch.split(raw, [math.prod(s) for s in shapes if not self._is_low(s)]))
        parts = []
        for shape in shapes:
            if self._is_low(shape):
                p, q = next(factors)
                parts.append((p @ q.T).view(-1))
            else:
                parts.append(next(plain))
        return torch.cat(parts)


def _as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def _orthogonal(p: Tensor) -> Tensor:
    """An orthonormal basis [rows, rank] of a space that holds p's columns; NaN of what is not
    finite, which LAPACK must not see."""
    if not bool(p.isfinite().all()):
        return torch.full_like(p, torch.nan)
    basis: Tensor = torch.linalg.qr(p).Q
    return basis


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _unflat(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(vector, [tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
