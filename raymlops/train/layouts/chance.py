"""Whether chance decides what a pass uses, as where blocks are left out (stochastic depth).

    if torch.rand(()) < 0.1: continue      drawn ──▶ compared ──▶ read: this pass goes another way
    x * torch.bernoulli(kept) / 0.9        drawn ──▶ multiplied: every pass goes the same way

Workers draw other numbers than each other, so that they go other ways at the same time: what they
send must not depend on the way. A pass tells it, whichever way that one went.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from raymlops.errors import TrainingError
from raymlops.train.generators import states
from raymlops.train.layouts.base import Context, Rows
from raymlops.train.layouts.followed import Followed
from raymlops.train.pipeline.costs import untouched
from raymlops.train.plan import ParallelPlan

# Dropout is none of them: it changes numbers, and not which layers they go through.
_DRAWING = {
    "rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal",
    "normal_", "uniform_", "random_", "bernoulli", "bernoulli_", "multinomial", "poisson",
    "exponential_", "geometric_", "cauchy_", "log_normal_", "gumbel_softmax",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Chance:
    """`decides` says that the way of a pass follows from random numbers, `elsewhere` that it draws
    some that are not torch's, with which a worker's seed has nothing to do."""

    decides: bool
    elsewhere: bool

    def require_shared(self, plan: ParallelPlan, model: nn.Module) -> None:
        """Raises TrainingError where workers that hold the same activations would draw others."""
        if plan.tensor > 1 and self.elsewhere:
            raise TrainingError(
                f"the forward of {type(model).__name__} draws from the random numbers of Python or "
                f"numpy, which the {plan.tensor} workers of the tensor axis do not share as they "
                "do torch's: draw by torch, as by torch.rand(()), or use data, shard or pipeline"
            )


def find_chance(model: nn.Module, rows: Rows, computing: Context) -> Chance:
    """What a pass of `rows` through the model shows. It decides where tensors are read that follow
    from what was drawn; of numbers that are no tensors that cannot be told, and they do, too. The
    model is as it was before."""
    watch = Followed(sources=_DRAWING)
    with untouched(model):
        before = states()
        with torch.no_grad(), computing(), watch:
            model(*rows.inputs)
        after = states()
    elsewhere = any(not np.array_equal(before[name], after[name]) for name in before)
    return Chance(decides=watch.has_read or elsewhere, elsewhere=elsewhere)
