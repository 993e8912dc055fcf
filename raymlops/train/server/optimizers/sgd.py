"""Plain stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from raymlops.train.server.optimizers.base import Optimizer, Rate, check_rate, rate_at

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """w - rate * g"""

    learning_rate: Rate
    num_states: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)

    def step(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        import torch

        torch.add(old[0], gradient, alpha=-rate_at(self.learning_rate, number), out=new[0])
