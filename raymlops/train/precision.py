"""Precision: which numbers the forward pass computes with, and the scale that fp16 needs."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from raymlops.errors import TrainingError
from raymlops.train.spec import Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which the operations that may do so compute in `precision`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raises TrainingError where the device cannot compute in `precision`."""
    able = precision == "fp32" or torch.amp.is_autocast_available(device.type)
    if precision == "bf16" and device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    if not able:
        raise TrainingError(
            f"precision is {precision}, which {_named(device)} cannot compute in: set it to fp32"
        )


@dataclass(frozen=True, kw_only=True)
class LossScale:
    """A factor on the loss that keeps small fp16 gradients from vanishing, 1 where none is needed.

    The rule and the figures are those of torch.amp.GradScaler, which itself takes neither a mesh
    of several axes nor gradients of different ones.
    """

    value: float = 1.0
    good_steps: int = 0

    @classmethod
    def first(cls, precision: Precision) -> LossScale:
        return cls(value=2.0**16 if precision == "fp16" else 1.0)

    def after(self, precision: Precision, *, finite: bool) -> LossScale:
        """Halved after gradients that overflowed, doubled after 2,000 steps without."""
        if precision != "fp16":
            return self
        if not finite:
            return LossScale(value=self.value * 0.5)
        if self.good_steps + 1 == 2_000:
            return LossScale(value=self.value * 2.0)
        return LossScale(value=self.value, good_steps=self.good_steps + 1)

    @property
    def is_spent(self) -> bool:
        """Whether halving has led nowhere: what overflows is not the scale's fault."""
        return self.value < math.ldexp(1.0, -24)


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
