"""Whether chance decides what a pass uses, as where blocks are left out (stochastic depth).

    if torch.rand(()) < 0.1: continue      drawn ──▶ compared ──▶ read: this pass goes another way
    x * torch.bernoulli(kept) / 0.9        drawn ──▶ multiplied: every pass goes the same way

Workers draw other numbers than each other, so that they go other ways at the same time: what they
send must not depend on the way. A pass tells it, whichever way that one went.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from raymlops.train.layouts.base import Context, Rows
from raymlops.train.pipeline.costs import untouched

# Dropout is none of them: it changes numbers, and not which layers they go through.
_DRAWING = {
    "rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal",
    "normal_", "uniform_", "random_", "bernoulli", "bernoulli_", "multinomial", "poisson",
    "exponential_", "geometric_", "cauchy_", "log_normal_", "gumbel_softmax",
}  # fmt: skip
_READING = {
    "__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "nonzero", "unique",
}  # fmt: skip


def is_by_chance(model: nn.Module, rows: Rows, computing: Context) -> bool:
    """Whether the way of `rows` through the model follows from random numbers: it reads tensors
    that were drawn, or draws from the generators of Python or numpy. The model is as it was
    before."""
    watch = _Watch()
    before = _elsewhere()
    with untouched(model), torch.no_grad(), computing(), watch:
        model(*rows.inputs)
    return watch.has_read or _elsewhere() != before


def _elsewhere() -> tuple[object, bytes, int]:
    """The states of random numbers that are not torch's."""
    _, numbers, position, *_ = np.random.get_state(legacy=True)  # noqa: NPY002  # a user's choice
    return random.getstate(), np.asarray(numbers).tobytes(), int(position)


class _Watch(TorchFunctionMode):
    """Follows what is drawn within it, and all that is computed from it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_read = False
        self._drawn: dict[int, torch.Tensor] = {}  # held, so that no other takes its id

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Collection[type],
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        given = _tensors((arguments, named))
        result = function(*arguments, **(named or {}))
        name = getattr(function, "__name__", "")
        follows = any(id(each) in self._drawn for each in given)
        self.has_read |= follows and name in _READING
        if follows or name in _DRAWING:
            self._drawn |= {id(each): each for each in _tensors(result)}
        return result


def _tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]
