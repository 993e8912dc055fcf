"""Which parameters a loss does not reach: in a pass, or as seen on a few rows."""

from __future__ import annotations

import torch
from torch import nn

from raymlops.train.layouts.base import Context, Rows
from raymlops.train.pipeline.costs import untouched
from raymlops.train.spec.recipe import Loss


def reached_by(loss: torch.Tensor) -> set[torch.Tensor]:
    """The parameters that gradients of `loss` go back to."""
    found: set[torch.Tensor] = set()
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, torch.Tensor):
            found.add(leaf)
        ahead.extend(following for following, _ in node.next_functions)
    return found


def find_unreached(model: nn.Module, loss: Loss, rows: Rows, computing: Context) -> list[str]:
    """The names of the trained parameters that get no gradient from `rows`.

    Gradients, buffers and random numbers are as they were before.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        return []
    with untouched(model), computing():
        reached = reached_by(loss(model(*rows.inputs), rows.targets))
    return [name for name, parameter in trained.items() if parameter not in reached]
