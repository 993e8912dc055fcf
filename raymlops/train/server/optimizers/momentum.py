"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from raymlops.train.server.optimizers.base import Optimizer, Rate, check_rate, rate_at

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Momentum(Optimizer):
    """Follows a velocity v = momentum * v + g (Sutskever et al., 2013, as torch.optim.SGD has it).

    In tables the velocity of a row rests while the row has no gradient.
    """

    learning_rate: Rate
    momentum: float = 0.9
    num_states: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)
        if not 0.0 < self.momentum < 1.0:
            raise ValueError(f"momentum is {self.momentum}, not between 0 and 1")

    def step(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        import torch

        parameters, velocity = new
        torch.mul(old[1], self.momentum, out=velocity).add_(gradient)
        torch.add(old[0], velocity, alpha=-rate_at(self.learning_rate, number), out=parameters)
