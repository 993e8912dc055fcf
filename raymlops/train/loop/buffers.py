"""Buffers, which a forward pass may change: running means, counts of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import nn

Copies: TypeAlias = Sequence[dict[str, torch.Tensor]]
"""What each of several models held, by name."""


def copy_buffers(models: Sequence[nn.Module]) -> Copies:
    return [{name: buffer.clone() for name, buffer in m.named_buffers()} for m in models]


@torch.no_grad()
def put_back(copies: Copies, models: Sequence[nn.Module]) -> None:
    """The models' buffers are again as they were when `copies` were made of them.

    Those that a pass has added or resized, such as tables that grow with the longest row, stay: so
    does what modules remember of them.
    """
    for model, copied in zip(models, copies, strict=True):
        for name, buffer in model.named_buffers():
            before = copied.get(name)
            if before is not None and before.shape == buffer.shape:
                buffer.copy_(before)
