"""What every updater does for the loop, which does not know which one it has.

Updater      gradients are there; parameters become new
├── Local    in every worker, by torch's optimizer, from gradients the layout has averaged
└── Served   on a parameter server, where gradients of all workers go
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from raymlops.train.compression import Compression
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import TrainSpec
from raymlops.train.spec.recipe import Schedule
from raymlops.train.updaters import clipping


class Updater(ABC):
    """One worker's part in the updates of the parameters of `parts`.

    `saved` are the parts whose state this worker saves and restores, with the optimizers that hold
    it; a part that only computes has none. Where the update happens elsewhere the optimizers are
    up to date after `gather`, and what they hold before `running` is where it starts.
    `compression` is what sends gradients in fewer bytes, None where they are sent as they are, or
    by the layout. `exchange_s` are the seconds of the last `update` in which this worker sent
    gradients elsewhere and fetched what became of them.
    """

    compression: Compression | None = None
    exchange_s: float = 0.0
    saved: Sequence[tuple[nn.Module, torch.optim.Optimizer | None]]

    def __init__(
        self, spec: TrainSpec, parts: Sequence[nn.Module], seat: Seat, schedule: Schedule
    ) -> None:
        self._spec = spec
        self._seat = seat
        self._schedule = schedule
        self._clip_norm = spec.clip_norm
        self._parameters = [parameter for part in parts for parameter in part.parameters()]

    def running(self, step: int) -> AbstractContextManager[object]:
        """Within it updates can be had, after `step` of them."""
        return nullcontext()

    def learning_rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        return self._spec.optimizer.learning_rate * self._schedule(step)

    def clear(self, *, keep: bool = False) -> None:
        """Forgets all gradients; their memory stays where it is with `keep`."""
        for parameter in self._parameters:
            if keep and parameter.grad is not None:
                parameter.grad.zero_()
            else:
                parameter.grad = None

    def begin_total(self, loss_sum: torch.Tensor) -> Callable[[], float]:
        """Begins to sum a batch's loss over the rows of all workers, given that over this one's;
        what is returned waits for it."""
        return self._seat.begin_total(loss_sum)

    def num_summed(self, num_rows: int) -> int:
        """Over how many rows that sum goes on rank 0, of a batch of `num_rows`."""
        return num_rows

    def update(self, loss_sum: float, progress: Progress) -> tuple[float | None, bool]:
        """Makes the parameters of the next step, unless something is not finite; the norm of all
        gradients, if they are clipped, and whether everything was finite."""
        clipping.settle(self._parameters)
        factor, norm = 1.0 / progress.scale.value, None
        if self._spec.clip_norm is not None:
            norm = clipping.total_norm(self._parameters, self._seat) * factor
        if not self._is_finite(loss_sum, norm):
            return norm, False
        if norm is not None and self._clip_norm is not None:
            factor *= min(1.0, self._clip_norm / (norm + 1e-6))
        if factor != 1.0:
            clipping.scale_gradients(self._parameters, factor)
        self._apply(progress.step)
        return norm, True

    def gather(self, loss_sum: float) -> float:
        """Brings all workers to one point, with the newest parameters, and the state of `saved` up
        to date; the epoch's loss so far, as all of them know it."""
        return loss_sum

    def _is_finite(self, loss_sum: float, norm: float | None) -> bool:
        # Whatever the loss is, all workers have to take part in the sum.
        total = clipping.total_sum(self._parameters, self._seat) if norm is None else norm
        return math.isfinite(loss_sum) and math.isfinite(total)

    @abstractmethod
    def _apply(self, step: int) -> None:
        """Takes one step on the gradients as they are."""
