"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raymlops.train.server.optimizers.adam import Adam
from raymlops.train.server.optimizers.base import rate_at

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam that first shrinks the parameters by rate * weight_decay (Loshchilov & Hutter, 2019).

    In tables a row shrinks only when it has a gradient.
    """

    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; it is not negative")

    def _step(
        self,
        old: Sequence[Tensor],
        new: Sequence[Tensor],
        gradient: Tensor,
        number: int,
        epsilon: float,
    ) -> None:
        import torch

        kept = 1 - rate_at(self.learning_rate, number) * self.weight_decay
        shrunk = torch.mul(old[0], kept, out=new[0])
        super()._step((shrunk, *old[1:]), new, gradient, number, epsilon)
