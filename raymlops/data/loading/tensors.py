"""Rows as torch tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading.source import FillingSource, Source

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """Delivers a tensor a column; the rows are copied once, from the source to where they stay.

    With `pin_memory` that is page-locked memory, from which `tensor.to("cuda", non_blocking=True)`
    copies while the loop goes on.

    Raises:
        ValueError: pinned memory is asked for where there is no GPU.
    """

    pin_memory: bool = False

    def __post_init__(self) -> None:
        import torch

        if self.pin_memory and not torch.cuda.is_available():
            raise ValueError("pin_memory is for copies to a GPU, and torch sees none here")

    def __call__(self, source: Source, rows: NDArray[np.int64]) -> tuple[torch.Tensor, ...]:
        import torch

        if not _can_fill(source):
            tensors = tuple(torch.from_numpy(column) for column in source.take(rows))
            return tuple(each.pin_memory() for each in tensors) if self.pin_memory else tensors
        into = tuple(
            torch.empty(
                (len(rows), *field.shape),
                dtype=_torch_dtype(field.dtype),
                pin_memory=self.pin_memory,
            )
            for field in source.fields
        )
        source.take_into(rows, tuple(tensor.numpy() for tensor in into))
        return into


def _can_fill(source: Source) -> TypeGuard[FillingSource]:
    """`isinstance` of a protocol, which takes as long as to read a batch, in a hundredth of it."""
    return hasattr(source, "take_into")


@cache
def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    import torch

    return torch.from_numpy(np.empty(0, dtype)).dtype
