"""Which parameters a loss does not reach, seen on a few rows."""

from __future__ import annotations

import torch
from torch import nn

from raymlops.train.layouts.base import Context, Rows
from raymlops.train.pipeline.costs import untouched
from raymlops.train.spec.recipe import Loss


def find_unreached(model: nn.Module, loss: Loss, rows: Rows, computing: Context) -> list[str]:
    """The names of the trained parameters that get no gradient from `rows`.

    Gradients, buffers and random numbers are as they were before.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        return []
    with untouched(model):
        with computing():
            value = loss(model(*rows.inputs), rows.targets)
        gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    return [name for name, found in zip(trained, gradients, strict=True) if found is None]
