"""A copy of the model in every worker, gradients averaged in buckets during the backward pass."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raymlops.errors import TrainingError
from raymlops.train.checks import shown
from raymlops.train.compression import CompressionHook, Compressor
from raymlops.train.layouts.base import Context, Rows, Tell, Whole
from raymlops.train.layouts.norms import SharedNorms
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.recipe import Loss

# DDP's timers cost a GPU some waiting, and reading them a CPU some microseconds.
_SAMPLE_EVERY = 10


class Replicated(Whole):
    """torch DDP (S. Li et al., PyTorch Distributed, 2020).

    What a compressor loses of a gradient depends on the bucket it is in, and so does the order in
    which three or more workers add up theirs, by which sums differ in their last bits. But DDP
    makes its buckets anew after the first step, also after the first of a training that goes on: it
    would not end as one that was not interrupted. So it is led to make them before any step, by
    `first`, rows that are the same on every worker.

    DDP keeps its buckets when it has to look for unused parameters; that it finds none it tells its
    log once. It looks for them, which takes a while each step, only with a compressor and where
    some are `unreached` by the loss of one row, as all are that only other rows use.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        seat: Seat,
        first: Rows,
        *,
        computing: Context = nullcontext,
        norms: SharedNorms | None = None,
        compressor: Compressor | None = None,
        unreached: Collection[str] = (),
    ) -> None:
        (num_unreached,) = seat.total([float(len(unreached))])  # which a worker alone may not see
        searches = compressor is not None or num_unreached > 0
        self._copies = DistributedDataParallel(
            model,
            process_group=seat.replicas,
            find_unused_parameters=searches,
        )
        self._hook = None
        if compressor is not None:
            self.compression = self._hook = CompressionHook(compressor, self._copies)
        self._copies._set_ddp_runtime_logging_sample_rate(_SAMPLE_EVERY)  # type: ignore[no-untyped-call]
        self._num_exchanges = 0
        super().__init__(self._copies, loss, computing=computing, norms=norms, unreached=unreached)
        if not searches:
            self._settle_buckets(first)

    def backward(self, rows: Rows, *, scale: float, last: bool, tell: Tell) -> None:
        super().backward(rows, scale=scale, last=last, tell=tell)
        if last:
            self._require_averaged()
        if last and self._hook is not None:
            self._hook.hand_on()
        self._num_exchanges += last
        if last and self._num_exchanges % _SAMPLE_EVERY == 0:
            told = self._copies._get_ddp_logging_data()  # type: ignore[no-untyped-call]  # in ns
            sent, hidden = (
                told.get(f"backward_{n}_time", 0) for n in ("comm", "compute_comm_overlap")
            )
            self.exchange_s = max(0, sent - hidden) / 1e9

    def _settle_buckets(self, rows: Rows) -> None:
        """Has DDP see in which order gradients come, of which it makes buckets at the next pass;
        the model is as it was before."""
        eagerly = torch.compiler.set_stance("force_eager")  # or it is compiled for so few rows
        with untouched(self._copies.module), eagerly:
            super().backward(rows, scale=0.0, last=True, tell=lambda _: None)
        self._require_averaged()
        self._copies.zero_grad()

    def _require_averaged(self) -> None:
        """Raises TrainingError where gradients are still those of one worker: DDP, which was not to
        look for parameters without one, says so at the next pass, after a step."""
        try:
            self._copies._check_reducer_finalized()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            names = [
                name
                for name, p in self._copies.module.named_parameters()
                if p.requires_grad and p.grad is None
            ]
            raise TrainingError(
                f"the loss does not reach {shown(names) or 'some parameters'} in a pass, and "
                "did on the first rows, so that workers do not average gradients of them: add 0 "
                "times the output of a layer that a pass leaves out, or train in one process"
            ) from error

    def _sending(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._copies.no_sync()
