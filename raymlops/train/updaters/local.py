"""Every worker steps the parameters it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from raymlops.errors import TrainingError
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.recipe import Schedule, make_optimizer
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
        for _, optimizer in self.saved:
            if optimizer is not None:
                optimizer.param_groups[:] = _of_one_kind(optimizer.param_groups)
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
                self._step(optimizer)

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        try:
            optimizer.step()
        except RuntimeError as error:
            held = (p for group in _groups(optimizer) for p in group["params"])
            if not any(isinstance(parameter, DTensor) for parameter in held):
                raise
            raise TrainingError(
                f"optimizer {self._spec.optimizer.name} cannot step slices of parameters, which "
                f"shard and tensor make of them ({error}): take another, or use data or pipeline"
            ) from error


def _groups(optimizer: torch.optim.Optimizer | None) -> list[dict[str, Any]]:
    return [] if optimizer is None else optimizer.param_groups


def _of_one_kind(groups: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The groups, with sliced parameters and whole ones apart: `foreach` and `fused` steps take a
    group at once, and none of both."""
    for group in groups:
        for is_sliced in (False, True):
            alike = [p for p in group["params"] if isinstance(p, DTensor) == is_sliced]
            if alike:
                yield {**group, "params": alike}


def _learns(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None
