"""A copy of the model in every worker, gradients averaged in buckets during the backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raymlops.train.layouts.base import Context, Whole
from raymlops.train.recipe import Loss
from raymlops.train.seat import Seat


class Replicated(Whole):
    """torch DDP (S. Li et al., PyTorch Distributed, 2020)."""

    def __init__(
        self, model: nn.Module, loss: Loss, seat: Seat, *, computing: Context = nullcontext
    ) -> None:
        self._copies = DistributedDataParallel(model, process_group=seat.replicas)
        super().__init__(self._copies, loss, computing=computing)

    def _sending(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._copies.no_sync()
