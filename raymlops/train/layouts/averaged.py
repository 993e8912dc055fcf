"""A copy of the model in every worker, gradients averaged in one message behind the backward pass.

DDP hides the sending behind the computing, with hooks on every parameter. Passes that are replayed
call no hooks, and a device that computes when a step ends has none to hide behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn

from raymlops.train.layouts.base import Context, Rows, Tell, Whole
from raymlops.train.layouts.norms import SharedNorms
from raymlops.train.plan.seat import Seat
from raymlops.train.replay import Recorder, Replays
from raymlops.train.spec.recipe import Loss


class Averaged(Whole):
    """Whole copies, whose passes `recorder` records if there is one; alone, nothing is sent."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        seat: Seat,
        *,
        computing: Context = nullcontext,
        norms: SharedNorms | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(model, loss, computing=computing, norms=norms)
        self._seat = seat
        self._replays: Replays | None = None
        if recorder is not None:
            self._replays = Replays(model, self._passes, seat.device, recorder)
            self.keeps_gradients = True

    def backward(self, rows: Rows, *, scale: float, last: bool, tell: Tell) -> None:
        columns = (*rows.inputs, rows.targets)
        replays = self._replays
        if replays is not None and replays.takes(columns, full=rows.full, counts=rows.counts):
            tell(replays.replay(columns, scale))
        else:
            super().backward(rows, scale=scale, last=last, tell=tell)
        if last and self._seat.plan.num_replicas > 1:
            self._average()

    def _passes(self, columns: tuple[torch.Tensor, ...], scale: torch.Tensor) -> torch.Tensor:
        *inputs, targets = columns
        loss = self._forward(Rows(inputs=tuple(inputs), targets=targets))
        torch.autograd.backward(loss * scale.to(loss.dtype))
        return loss.detach()

    def _average(self) -> None:
        """Gradients are the mean over replicas, buffers those of the first, as under DDP."""
        seat, replicas = self._seat, self._seat.replicas
        for gradients in _by_type(p.grad for p in self._model.parameters()):
            message = torch.cat([each.flatten() for each in gradients]).to(seat.device.sends_from)
            dist.all_reduce(message, group=replicas)
            message.div_(seat.plan.num_replicas)
            sizes = [each.numel() for each in gradients]
            parts = torch.split(message.to(seat.device.where), sizes)
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        seat.align(self._model.buffers())


def _by_type(gradients: Iterable[torch.Tensor | None]) -> Iterable[list[torch.Tensor]]:
    found: dict[torch.dtype, list[torch.Tensor]] = defaultdict(list)
    for gradient in gradients:
        if gradient is not None:
            found[gradient.dtype].append(gradient)
    return found.values()
