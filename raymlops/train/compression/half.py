"""16 bits an element."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raymlops.train.compression.base import to_bytes
from raymlops.train.compression.elementwise import Elementwise

# Leaves room below the largest half (65,504), and above the smallest normal one 28 powers of two.
_LARGEST_EXPONENT = 15
# 2 to the power of it, and of its negative, are float32s.
_LARGEST_SHIFT = 126


@dataclass(frozen=True)
class Float16(Elementwise):
    """11 significant bits, after a power of two that brings the largest element near the top.

    Without it gradients of 1e-8 would be zero, and those of 1e5 infinite.
    """

    def encode(self, vector: Tensor) -> Tensor:
        largest = vector.abs().max() if len(vector) else vector.new_zeros(())
        # frexp of what is not finite is undefined; the elements carry it all the same.
        _, exponent = torch.frexp(torch.where(largest.isfinite(), largest, 1.0))
        shift = torch.where(largest > 0, _LARGEST_EXPONENT - exponent, 0)
        shift = shift.clamp(-_LARGEST_SHIFT, _LARGEST_SHIFT).to(torch.int32)
        return to_bytes(torch.ldexp(vector, shift).half(), shift.view(1))

    def decode(self, payload: Tensor, size: int) -> Tensor:
        halves, shift = payload[: 2 * size], payload[2 * size :]
        scaled = halves.clone().view(torch.float16).float()
        return torch.ldexp(scaled, -shift.clone().view(torch.int32))


@dataclass(frozen=True)
class BFloat16(Elementwise):
    """8 significant bits and the range of float32; carried as bytes."""

    def encode(self, vector: Tensor) -> Tensor:
        return to_bytes(vector.bfloat16())

    def decode(self, payload: Tensor, size: int) -> Tensor:
        return payload.clone().view(torch.bfloat16).float()
