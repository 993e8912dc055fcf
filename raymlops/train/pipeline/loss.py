"""The loss of a batch that comes in microbatches: summed, scaled, without the rows that pad it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from raymlops.train.pipeline.microbatches import Microbatches

Targets = torch.Tensor | tuple[torch.Tensor, ...]  # each [rows, ...]
# Of outputs [rows, ...] and their targets, summed over rows: `reduction="sum"`.
Loss = Callable[[torch.Tensor, Targets], torch.Tensor]


class BatchLoss:
    """What torch's schedules call for each microbatch, with its number as target."""

    def __init__(self, loss: Loss, microbatches: Microbatches) -> None:
        self._loss = loss
        self._microbatches = microbatches
        self.numbers = torch.arange(microbatches.count)

    def begin(self, targets: Targets | None, *, scale: float, device: torch.device) -> None:
        """`targets` are those of the next batch, None where its last stage is not."""
        self._targets = targets
        self._scale = scale
        self.total = torch.zeros((), dtype=torch.float64, device=device)

    def __call__(self, outputs: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """`scale` times the microbatch's loss, to be differentiated; adds the loss to `total`."""
        targets = self._targets
        assert targets is not None
        first = targets if isinstance(targets, torch.Tensor) else targets[0]
        rows = self._microbatches.rows(int(number), len(first))
        outputs = outputs[: rows.stop - rows.start]
        if not len(outputs):
            return outputs.sum()  # of nothing: 0, and no gradient
        mine = (
            targets[rows]
            if isinstance(targets, torch.Tensor)
            else tuple(target[rows] for target in targets)
        )
        loss = self._loss(outputs, mine)
        self.total += loss.detach()
        return loss * self._scale
