"""Blocks whose inputs are kept, and whose insides are computed again on the way back.

forward     buffers 0 ──▶ block ──▶ buffers 1        as running means go on, and random numbers
backward    buffers 0 ──▶ block again                and nothing goes on a second time
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeAlias

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from raymlops.errors import TrainingError
from raymlops.train.generators import Drawn, drawing_from, drawn

_Buffers: TypeAlias = Mapping[nn.Module, Mapping[str, torch.Tensor]]


def recompute(
    model: nn.Module, blocks: Mapping[str, nn.Module], *, compiled: bool, shares_norms: bool
) -> None:
    """Has `blocks` of `model` computed again in place; where it shares norms with other workers, a
    compiled graph ends at them.

    Raises:
        TrainingError: there are none.
    """
    if not blocks:
        raise TrainingError(
            f"activation_checkpointing is set, and {type(model).__name__} has neither a ModuleList "
            "nor a Sequential whose members could be computed again: set it to false"
        )
    wrap = partial(checkpoint_wrapper, checkpoint_impl=CheckpointImpl.NO_REENTRANT)

    def wrapped(block: nn.Module) -> nn.Module:
        # A compiled graph changes buffers once, however often it computes what is in it.
        is_cut = shares_norms and next(block.buffers(), None) is not None
        if compiled and not is_cut:
            return wrap(block)
        return wrap(block, context_fn=partial(_contexts, block))

    chosen = {id(block) for block in blocks.values()}
    apply_activation_checkpointing(
        model, checkpoint_wrapper_fn=wrapped, check_fn=lambda module: id(module) in chosen
    )


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What to enter around a pass through `block`, and around the same computed again."""
    before = _copied(_buffers_of(block))
    return nullcontext(), _as_before(block, before, drawn())


@contextmanager
def _as_before(block: nn.Module, buffers: _Buffers, numbers: Drawn) -> Iterator[None]:
    """Within it the modules of `block` have copies of `buffers`, others than those they had, which
    what was computed before may still read, and draw what follows `numbers`; torch sees to those
    that are its own."""
    now = _buffers_of(block)
    _give(_copied(buffers))
    try:
        with drawing_from(numbers):
            yield
    finally:
        _give(now)


def _buffers_of(block: nn.Module) -> _Buffers:
    return {
        module: {name: held for name, held in module._buffers.items() if held is not None}
        for module in block.modules()
        if module._buffers
    }


def _copied(buffers: _Buffers) -> _Buffers:
    return {
        module: {name: held.clone() for name, held in named.items()}
        for module, named in buffers.items()
    }


def _give(buffers: _Buffers) -> None:
    for module, named in buffers.items():
        module._buffers.update(named)
