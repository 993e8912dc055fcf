"""A copy of the model in every worker, gradients averaged in buckets during the backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raymlops.train.compression import CompressionHook, Compressor
from raymlops.train.layouts.base import Context, Whole
from raymlops.train.recipe import Loss
from raymlops.train.seat import Seat


class Replicated(Whole):
    """torch DDP (S. Li et al., PyTorch Distributed, 2020).

    What a compressor loses of a gradient depends on the bucket it is in, and DDP makes its buckets
    anew after the first step, also after the first of a training that goes on: it would not end as
    one that was not interrupted. DDP keeps its buckets when it has to look for unused parameters;
    that it finds none it tells its log once.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        seat: Seat,
        *,
        computing: Context = nullcontext,
        compressor: Compressor | None = None,
    ) -> None:
        self._copies = DistributedDataParallel(
            model,
            process_group=seat.replicas,
            find_unused_parameters=compressor is not None,
        )
        if compressor is not None:
            self.compression = CompressionHook(compressor, self._copies)
        super().__init__(self._copies, loss, computing=computing)

    def _sending(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._copies.no_sync()
