"""Shards of a model that not all rows go through: workers use other parameters than each other.

rows of worker 0 ─▶ expert 0      gradients of both experts are reduced by both workers,
rows of worker 1 ─▶ expert 0      zeros where a worker has none; expert 1, which nobody
                                  used, ends without a gradient, as in one process
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from raymlops.train.layouts.unreached import reached_by
from raymlops.train.plan.seat import Seat

_logger = logging.getLogger(__name__)


class Search:
    """What passes through `module` reach on any of its replicas.

    It is made before FSDP2 shards the module and `blocks` of it, whose parameters it knows again
    while they are gathered: FSDP2's own hook, which lets go of them, comes later.
    """

    def __init__(self, module: nn.Module, blocks: Collection[nn.Module], seat: Seat) -> None:
        self._module = module
        self._seat = seat
        self._trained = [name for name, p in _parameters_of(module) if p.requires_grad]
        self._names: dict[torch.Tensor, str] = {}
        self._reached: set[str] = set()
        names = {each: name for name, each in module.named_modules()}
        for block in (*blocks, module):
            block.register_forward_hook(partial(self._note, names[block]))

    def begin(self, shards: FSDPModule, unreached: Collection[str]) -> None:
        """Has FSDP2 send zeros for what a worker did not use."""
        if hasattr(shards, "set_reduce_scatter_unused_params"):
            shards.set_reduce_scatter_unused_params(True)
            return
        _logger.warning(
            "%s, and torch %s cannot wait for workers that use other parameters than each other: "
            "if only some rows use them, take a newer torch, or data alone",
            f"the first row does not reach {', '.join(unreached)}"
            if unreached
            else "the model looks at its rows",
            torch.__version__,
        )

    def follow(self, value: torch.Tensor) -> Collection[str]:
        """The names of what gradients of `value` go back to, which a pass has just computed; it
        counts them."""
        found = reached_by(value) if value.grad_fn is not None else ()
        names = {self._names[p] for p in found if p in self._names}
        self._reached |= names
        self._names.clear()
        return names

    def end(self) -> None:
        """Leaves no gradient where none of a batch's passes had one; every replica calls it."""
        counts = self._seat.total([float(name in self._reached) for name in self._trained])
        for name, count in zip(self._trained, counts, strict=True):
            if not count:
                self._module.get_parameter(name).grad = None
        self._reached.clear()

    def _note(self, name: str, module: nn.Module, *_passed: Any) -> None:
        prefix = f"{name}." if name else ""
        self._names |= {p: f"{prefix}{own}" for own, p in _parameters_of(module)}


def _parameters_of(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """By the names under which they lie there: that a part is recomputed, its own method hides."""
    return nn.Module.named_parameters(module)
