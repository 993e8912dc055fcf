"""Adam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from raymlops.train.server.optimizers.base import Optimizer, Rate, check_rate, rate_at

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Running means of gradients and of their squares, corrected for bias (Kingma & Ba, 2015).

    In tables it is the lazy variant of torch.optim.SparseAdam: the means of a row rest while the
    row has no gradient, and epsilon is added before the correction for bias.
    """

    learning_rate: Rate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    num_states: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)
        if not (0.0 <= self.beta1 < 1.0 and 0.0 <= self.beta2 < 1.0):
            raise ValueError(f"beta1 is {self.beta1} and beta2 {self.beta2}; both are in [0, 1)")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon}; give a positive number")

    def step(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        self._step(old, new, gradient, number, self.epsilon)

    def step_rows(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        epsilon = self.epsilon / (1 - self.beta2**number) ** 0.5
        self._step(old, new, gradient, number, epsilon)

    def _step(
        self,
        old: Sequence[Tensor],
        new: Sequence[Tensor],
        gradient: Tensor,
        number: int,
        epsilon: float,
    ) -> None:
        import torch

        parameters, mean, squares = new
        torch.lerp(old[1], gradient, 1 - self.beta1, out=mean)
        torch.mul(old[2], self.beta2, out=squares)
        squares.addcmul_(gradient, gradient, value=1 - self.beta2)
        rate = rate_at(self.learning_rate, number) / (1 - self.beta1**number)
        correction = (1 - self.beta2**number) ** 0.5
        deviation = torch.sqrt(squares, out=gradient).div_(correction).add_(epsilon)
        torch.addcdiv(old[0], mean, deviation, value=-rate, out=parameters)
