"""What a compressor is: gradients to fewer bytes, for one receiver or for all workers at once.

    push to a server    compress ──▶ bytes ──▶ decompress
    workers average     average: rounds of Sum, Scatter and Gather, whoever carries them out

A compressor only computes: the rounds of `average` are requests that a process group answers, or
a test that has all workers in one process.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """A flat float32 vector, and the parameters that lie in it one after the other."""

    vector: Tensor
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        size = sum(math.prod(shape) for shape in self.shapes)
        if self.vector.dtype != torch.float32 or self.vector.dim() != 1:
            raise ValueError(
                f"a gradient is a flat float32 vector, not {self.vector.dtype} of shape "
                f"{tuple(self.vector.shape)}"
            )
        if size != self.vector.numel() or len(self.names) != len(self.shapes):
            raise ValueError(
                f"the vector has {self.vector.numel()} elements, its {len(self.names)} parameters "
                f"of shapes {self.shapes} have {size}"
            )

    def parts(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector of this size: one a parameter, in its shape."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return [
            part.view(shape)
            for part, shape in zip(torch.split(vector, sizes), self.shapes, strict=True)
        ]


@dataclass(kw_only=True)
class Memory:
    """What a compressor takes from one call to the next; where workers average, alike on all.

    `tensors` are by the name of a parameter.
    """

    step: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Sum:
    """Answered by the sum of all workers' tensors."""

    tensor: Tensor


@dataclass(frozen=True)
class Gather:
    """Answered by the list of all workers' payloads, which are of one length."""

    payload: Tensor


@dataclass(frozen=True)
class Scatter:
    """Gives each worker one payload; answered by the list of those given to this one.

    The payloads for one worker are of one length.
    """

    payloads: Sequence[Tensor]


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A worker's place among those that average."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """The mean over workers, the same on all; and what this worker put into it.

    The mean of all workers' `own` is `mean`, up to rounding.
    """

    mean: Tensor
    own: Tensor


Rounds: TypeAlias = Generator[Sum | Gather | Scatter, Any, Averaged]


class Compressor(ABC):
    """A member of the family: a frozen dataclass of its settings.

    What is not finite in a gradient makes the result not finite, so that a loss scaler sees it.
    """

    @abstractmethod
    def compress(self, gradient: Gradient, memory: Memory) -> Tensor:
        """The payload, uint8 [bytes], for one receiver."""

    @abstractmethod
    def decompress(self, payload: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        """The flat float32 vector that a payload stands for, of parameters of these shapes."""

    @abstractmethod
    def average(self, gradient: Gradient, memory: Memory, seat: Seat) -> Rounds:
        """The mean of all workers' gradients, in rounds that all of them go through together."""


def size_of(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def to_bytes(*tensors: Tensor) -> Tensor:
    """One payload of the tensors' contents, one after the other."""
    return torch.cat([tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors])


def drawing(seed: int, number: int) -> torch.Generator:
    """Random numbers that follow from two numbers, in every process the same."""
    return torch.Generator().manual_seed(((seed << 32) ^ number) & ((1 << 63) - 1))
