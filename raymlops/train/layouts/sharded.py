"""A slice of every parameter, gradient and optimizer state in every worker.

A block's parameters are gathered before it is used and let go of after; gradients are reduced to
the slices. Over a mesh of data and shard, each row of which holds the whole model, it is HSDP; with
a shard axis of one worker it copies, which is how layers that are sliced already are replicated.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from raymlops.train.layouts.base import Context, Rows, Tell, Whole
from raymlops.train.layouts.clocked import Clock
from raymlops.train.layouts.meeting import Meeting
from raymlops.train.layouts.norms import SharedNorms
from raymlops.train.layouts.searched import Search
from raymlops.train.layouts.shards import require_shardable
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.recipe import Loss


def mesh_of(seat: Seat) -> DeviceMesh:
    """The workers that share a batch: rows of copies, columns of shards; without copies one row."""
    assert seat.mesh is not None, "a plan with replicas has a mesh"
    axes: Any = ("data", "shard") if seat.plan.data > 1 else ("shard",)
    return seat.mesh[axes]


class Sharded(Whole):
    """FSDP2 (Y. Zhao et al., PyTorch FSDP, 2023), each of `blocks` gathered on its own.

    Where some parameters are `unreached` by the loss of one row, or the model `looks` at its rows,
    a `Search` goes along; where it looks, workers meet at blocks.

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
        norms: SharedNorms | None = None,
        around: Context = nullcontext,
        unreached: Collection[str] = (),
        looks: bool = False,
    ) -> None:
        require_shardable(model, blocks)
        (num_unreached,) = seat.total([float(len(unreached))])  # which a worker alone may not see
        self._search = Search(model, blocks, seat) if num_unreached or looks else None
        mesh = mesh_of(seat)
        shards = [fully_shard(block, mesh=mesh) for block in (*blocks, model)]
        self._shards: FSDPModule = shards[-1]
        if self._search is not None:
            self._search.begin(self._shards, unreached)
        self._meeting = Meeting(model, blocks, seat) if looks and blocks else None
        self._clock = Clock()
        if seat.device.where.type == "cpu":
            for each in shards:
                self._clock.watch(each, averages=seat.plan.data > 1)
        super().__init__(
            model, loss, computing=computing, norms=norms, around=around, unreached=unreached
        )

    def backward(self, rows: Rows, *, scale: float, last: bool, tell: Tell) -> None:
        super().backward(rows, scale=scale, last=last, tell=tell)
        if last and self._search is not None:
            self._search.end()
        if last:
            self.exchange_s = self._clock.take()

    def evaluate(self, rows: Rows) -> torch.Tensor:
        loss = super().evaluate(rows)
        self._clock.take()  # these messages are of no step
        return loss

    def _forward(self, rows: Rows) -> torch.Tensor:
        loss = super()._forward(rows)
        if self._search is not None:
            reached = self._search.follow(loss)
            if self._meeting is not None:
                self._meeting.end(reached)
        return loss

    def _sending(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._quiet()

    @contextmanager
    def _quiet(self) -> Any:
        self._shards.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._shards.set_requires_gradient_sync(True)
