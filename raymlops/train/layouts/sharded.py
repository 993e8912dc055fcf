"""A slice of every parameter, gradient and optimizer state in every worker.

A block's parameters are gathered before it is used and let go of after; gradients are reduced to
the slices. Over a mesh of data and shard, each row of which holds the whole model, it is HSDP; with
a shard axis of one worker it copies, which is how layers that are sliced already are replicated.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from raymlops.train.layouts.base import Context, Rows, Whole
from raymlops.train.layouts.clocked import Clock
from raymlops.train.layouts.shards import require_shardable
from raymlops.train.layouts.unreached import reached_by
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.recipe import Loss

_logger = logging.getLogger(__name__)


def mesh_of(seat: Seat) -> DeviceMesh:
    """The workers that share a batch: rows of copies, columns of shards; without copies one row."""
    assert seat.mesh is not None, "a plan with replicas has a mesh"
    axes: Any = ("data", "shard") if seat.plan.data > 1 else ("shard",)
    return seat.mesh[axes]


class Sharded(Whole):
    """FSDP2 (Y. Zhao et al., PyTorch FSDP, 2023), each of `blocks` gathered on its own.

    Where some parameters are `unreached` by the loss of one row, workers may use others than each
    other. Each sends zeros then for what it has not used, and what none of them has used in a batch
    ends without a gradient, as in one process: an optimizer leaves it as it is.

    Raises:
        TrainingError: the model holds what FSDP2 does not take.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        seat: Seat,
        *,
        blocks: Collection[nn.Module],
        computing: Context = nullcontext,
        around: Context = nullcontext,
        unreached: Collection[str] = (),
    ) -> None:
        require_shardable(model, blocks)
        self._seat = seat
        self._trained = [name for name, p in model.named_parameters() if p.requires_grad]
        self._reached: set[str] = set()
        self._gathered: dict[torch.Tensor, str] = {}
        (num_unreached,) = seat.total([float(len(unreached))])
        self._searches = num_unreached > 0
        names = {module: name for name, module in model.named_modules()}
        mesh = mesh_of(seat)
        shards = []
        for block in (*blocks, model):
            if self._searches:  # before FSDP2's own hook, which lets go of what was gathered
                block.register_forward_hook(partial(self._note, names[block]))
            shards.append(fully_shard(block, mesh=mesh))
        self._shards: FSDPModule = shards[-1]
        if self._searches:
            _expect_unused(self._shards, unreached)
        self._clock = Clock()
        if seat.device.where.type == "cpu":
            for each in shards:
                self._clock.watch(each, averages=seat.plan.data > 1)
        super().__init__(model, loss, computing=computing, around=around, unreached=unreached)

    def backward(self, rows: Rows, *, scale: float, last: bool) -> torch.Tensor:
        loss = super().backward(rows, scale=scale, last=last)
        if last and self._searches:
            self._forget_unreached()
        if last:
            self.exchange_s = self._clock.take()
        return loss

    def evaluate(self, rows: Rows) -> torch.Tensor:
        loss = super().evaluate(rows)
        self._clock.take()  # these messages are of no step
        return loss

    def _forward(self, rows: Rows) -> torch.Tensor:
        self._gathered.clear()
        loss = super()._forward(rows)
        if self._searches and loss.grad_fn is not None:
            self._reached.update(self._gathered[p] for p in reached_by(loss) if p in self._gathered)
        return loss

    def _note(self, name: str, module: nn.Module, *_passed: Any) -> None:
        """Of parameters as they are while they are gathered, how the whole model calls them."""
        prefix = f"{name}." if name else ""
        self._gathered |= {p: f"{prefix}{own}" for own, p in module.named_parameters()}

    def _forget_unreached(self) -> None:
        counts = self._seat.total([float(name in self._reached) for name in self._trained])
        (model,) = self.parts
        for name, count in zip(self._trained, counts, strict=True):
            if not count:
                model.get_parameter(name).grad = None
        self._reached.clear()

    def _sending(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._quiet()

    @contextmanager
    def _quiet(self) -> Any:
        self._shards.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._shards.set_requires_gradient_sync(True)


def _expect_unused(shards: FSDPModule, unreached: Collection[str]) -> None:
    if hasattr(shards, "set_reduce_scatter_unused_params"):
        shards.set_reduce_scatter_unused_params(True)
    else:
        _logger.warning(
            "the first row does not reach %s, and torch %s cannot wait for workers that use other "
            "parameters than each other: if only some rows use them, take a newer torch, or data "
            "alone",
            ", ".join(unreached),
            torch.__version__,
        )
