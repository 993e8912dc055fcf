"""Workers that make sure of each other before they gather a block, which takes all of them.

    worker 0    at block 0 ✓  at block 1 ✗ ─▶ TrainingError
    worker 1    at block 0 ✓  at block 2 ✗ ─▶ TrainingError

Else one gets a block's weights from half of it and half of another, or waits for ever. A number of
each worker goes around before a block, and what the loss reaches after a pass: of models that look
at their rows, which may decide on their way, and of no others.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.checks import shown
from raymlops.train.layouts.base import Context, Rows
from raymlops.train.layouts.followed import Followed
from raymlops.train.layouts.normalize import Peers
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan.seat import Seat

_END = 0
_WAY_OUT = (
    "; rows decide which blocks a pass goes through, and it takes all workers to gather one: go "
    "through it in every pass and multiply by 0 what is left out, or train in one process"
)


def looks_at_rows(model: nn.Module, rows: Rows, computing: Context) -> bool:
    """Whether a pass reads numbers that follow from its rows. The model is as it was before."""
    followed = Followed(rows.inputs)
    with untouched(model), torch.no_grad(), computing(), followed:
        model(*rows.inputs)
    return followed.has_read


class Meeting:
    """Has replicas go through `blocks` of `model` in one order; to be made once FSDP2 has sharded
    them, on every replica."""

    def __init__(self, model: nn.Module, blocks: Collection[nn.Module], seat: Seat) -> None:
        self._peers = Peers(seat)
        names = {each: name for name, each in model.named_modules()}
        self._names = [names[block] for block in blocks]
        self._members = [
            frozenset(f"{names[block]}.{own}" for own, _ in nn.Module.named_parameters(block))
            for block in blocks
        ]
        for place, block in enumerate(blocks, start=1):
            block.register_forward_pre_hook(partial(self._meet, place), prepend=True)

    def end(self, reached: Collection[str]) -> None:
        """Ends a pass whose loss reaches these parameters: gradients go back by the same blocks.

        Raises:
            TrainingError: those of other workers do not.
        """
        used = [not each.isdisjoint(reached) for each in self._members]
        places, *columns = self._gather(_END, used)
        self._require_same(places)
        apart = [
            name
            for name, column in zip(self._names, columns, strict=True)
            if any(column) and not all(column)
        ]
        if apart:
            raise TrainingError(
                f"the loss of some workers' rows reaches {shown(apart)}, and that of others' does "
                f"not{_WAY_OUT}"
            )

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # messages belong to no graph
    def _meet(self, place: int, *_: Any) -> None:
        places, *_used = self._gather(place, [False] * len(self._names))
        self._require_same(places)

    def _gather(self, place: int, used: list[bool]) -> list[list[int]]:
        """What each worker says, a list each for the place and for every block."""
        found: list[list[int]] = self._peers.gather(torch.tensor([place, *used])).T.tolist()
        return found

    def _require_same(self, places: list[int]) -> None:
        if len(set(places)) > 1:
            at = ", ".join(f"worker {n} at {self._name(p)}" for n, p in enumerate(places))
            raise TrainingError(f"workers go different ways: {at}{_WAY_OUT}")

    def _name(self, place: int) -> str:
        return "the end" if place == _END else self._names[place - 1]
