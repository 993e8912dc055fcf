"""Every worker steps the parameters it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from raymlops.train.recipe import Schedule, make_optimizer
from raymlops.train.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.updaters.base import Updater


class Local(Updater):
    """One torch optimizer for each part that has parameters; groups of them that were made with
    rates of their own keep these in proportion."""

    def __init__(
        self, spec: TrainSpec, parts: Sequence[nn.Module], seat: Seat, schedule: Schedule
    ) -> None:
        super().__init__(spec, parts, seat, schedule)
        self.saved = [
            (part, make_optimizer(spec.optimizer, part.parameters()) if _learns(part) else None)
            for part in parts
        ]
        # By optimizer, as they were made: restored groups are others, with the rates of a step.
        self._ratios = [
            [group["lr"] / spec.optimizer.learning_rate for group in _groups(optimizer)]
            for _, optimizer in self.saved
        ]

    def _apply(self, step: int) -> None:
        rate = self.learning_rate(step)
        for (_, optimizer), ratios in zip(self.saved, self._ratios, strict=True):
            for group, ratio in zip(_groups(optimizer), ratios, strict=True):
                group["lr"] = rate * ratio
            if optimizer is not None:
                optimizer.step()


def _groups(optimizer: torch.optim.Optimizer | None) -> list[dict[str, Any]]:
    return [] if optimizer is None else optimizer.param_groups


def _learns(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None
