"""Precision: which numbers the forward pass computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
