"""What every optimizer of the server offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

Rate = float | Callable[[int], float]
"""A learning rate, or a schedule: the rate of step 1, 2, ..."""


class Optimizer(ABC):
    """The arithmetic of one step, element by element.

    A step runs over pieces of the parameters in any order, so it must keep nothing but `states`.
    The order of operations is that of the same optimizer in `torch.optim` (not fused, not
    foreach), which makes the results equal bit by bit.
    """

    num_states: ClassVar[int]
    """How many numbers are kept beside each parameter; they begin as 0."""

    @abstractmethod
    def step(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        """Writes what step `number`, counted from 1, makes of the parameters and states `old` to
        `new`, which may be the same tensors. `gradient` may be overwritten."""

    def step_rows(
        self, old: Sequence[Tensor], new: Sequence[Tensor], gradient: Tensor, number: int
    ) -> None:
        """Takes step `number` of a table, given only the rows that have a gradient."""
        self.step(old, new, gradient, number)


def check_rate(rate: Rate) -> None:
    if not callable(rate) and rate <= 0:
        raise ValueError(f"learning_rate is {rate}; give a positive number or a schedule")


def rate_at(rate: Rate, number: int) -> float:
    return rate(number) if callable(rate) else rate
