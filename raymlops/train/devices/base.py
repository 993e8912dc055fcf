"""What the training asks of the device it computes on, which it otherwise does not know.

Device      where tensors lie, when they are computed, by what workers talk
├── Cpu     at once, in the host's memory, over gloo
├── Cuda    behind the host's back, in memory of its own, over NCCL
└── Xla     once a step is ended and compiled (TPUs), through the host, over gloo
"""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch

from raymlops.errors import TrainingError
from raymlops.train.replay import Recorder
from raymlops.train.spec import Precision

_DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class Device(ABC):
    """One device of this process.

    `where` is where parameters and batches are put, `wide` the widest numbers it sums in. Workers
    talk by `group_backend` of torch.distributed, about what lies on `sends_from`.

    Raises:
        TrainingError: at construction, where this process has no such device.
    """

    group_backend: ClassVar[str]
    wide: ClassVar[torch.dtype] = torch.float64
    where: torch.device

    @property
    def sends_from(self) -> torch.device:
        return self.where

    @property
    @abstractmethod
    def label(self) -> str:
        """What people call it."""

    def can_compute_in(self, precision: Precision) -> bool:
        return precision == "fp32" or torch.amp.is_autocast_available(self.where.type)

    def require(self, precision: Precision) -> None:
        """Raises TrainingError where it cannot compute in `precision`."""
        if not self.can_compute_in(precision):
            raise TrainingError(
                f"precision is {precision}, which {self.label} cannot compute in: set it to fp32"
            )

    def autocast(self, precision: Precision) -> AbstractContextManager[object]:
        """A context in which the operations that may do so compute in `precision`."""
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(self.where.type, dtype=_DTYPES[precision])

    @abstractmethod
    def end_step(self) -> None:
        """Has what was asked for since the last step computed, where a device waits to be told."""

    @abstractmethod
    def finish(self) -> None:
        """Returns once everything asked for is computed."""

    def own_memory_bytes(self) -> int | None:
        """The most memory of its own it has held so far; None where it has none, or none told."""
        return None

    def generator_state(self) -> torch.Tensor | None:
        """The state of its generator of random numbers; None where that is the host's."""
        return None

    @abstractmethod
    def set_generator_state(self, state: torch.Tensor) -> None:
        """Goes on with the random numbers that follow `state`."""

    def recorder(self) -> Recorder:
        """What records passes on it, to be replayed.

        Raises:
            TrainingError: it has nothing that does.
        """
        raise TrainingError(
            f"cuda_graphs is true, and {self.label} has none: set it to false, or device to cuda"
        )

    def why_uncompiled(self, backend: str) -> str | None:
        """What keeps a torch.compile backend from running here, None if nothing does."""
        return None

    def peak_flops_per_s(self, precision: Precision) -> float:
        """What it does at best on products of matrices in `precision`."""
        return self._measured_flops_per_s(precision, size=512, repeats=4)

    def _measured_flops_per_s(self, precision: Precision, *, size: int, repeats: int) -> float:
        matrix = torch.ones(size, size, dtype=_DTYPES[precision], device=self.where)
        best = 0.0
        for _ in range(repeats):
            self.finish()
            before = time.perf_counter()
            product = torch.mm(matrix, matrix)
            self.end_step()
            self.finish()
            del product
            best = max(best, 2.0 * size**3 / (time.perf_counter() - before))
        return best


def missing(name: str, why: str) -> TrainingError:
    """Why a worker does not have the device it was to compute on."""
    return TrainingError(f"device is {name}, and {socket.gethostname()} {why}")
