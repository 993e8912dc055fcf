"""The scale on a loss that keeps fp16 gradients from vanishing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raymlops.train.spec import Precision


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
