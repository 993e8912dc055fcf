"""Every worker steps the parameters it holds."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from raymlops.train.recipe import Schedule, make_optimizer
from raymlops.train.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.updaters.base import Updater


class Local(Updater):
    """One torch optimizer for each part that has parameters."""

    def __init__(
        self, spec: TrainSpec, parts: Sequence[nn.Module], seat: Seat, schedule: Schedule
    ) -> None:
        super().__init__(spec, parts, seat, schedule)
        self.saved = [
            (part, make_optimizer(spec.optimizer, part.parameters()) if _learns(part) else None)
            for part in parts
        ]

    def _apply(self, step: int) -> None:
        rate = self.learning_rate(step)
        for _, optimizer in self.saved:
            if optimizer is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()


def _learns(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None
