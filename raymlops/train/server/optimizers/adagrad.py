"""Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from raymlops.train.server.optimizers.base import Optimizer, Rate, check_rate, rate_at

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """Divides by the root of the sum of squared gradients (Duchi et al., 2011)."""

    learning_rate: Rate
    epsilon: float = 1e-10
    num_states: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon}; give a positive number")

    def step(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        import torch

        parameters, squares = new
        torch.addcmul(old[1], gradient, gradient, value=1, out=squares)
        deviation = squares.sqrt().add_(self.epsilon)
        rate = rate_at(self.learning_rate, number)
        torch.addcdiv(old[0], gradient, deviation, value=-rate, out=parameters)
