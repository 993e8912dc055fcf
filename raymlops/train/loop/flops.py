"""What a step of a torch model costs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import nn

_logger = logging.getLogger(__name__)


def count_flops(make: Callable[[], nn.Module], inputs: tuple[torch.Tensor, ...]) -> float | None:
    """Floating point operations a row, forward and backward, of the model made, on `inputs`.

    Matrix products, convolutions and attention are counted, without weights and without computing
    them. None for a model that cannot run without values.
    """
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    shapes = tuple(column.to("meta") for column in inputs)
    try:
        with torch.device("meta"):
            model = make()
        with FlopCounterMode(display=False) as counter:
            outputs = [x for x in tree_leaves(model(*shapes)) if isinstance(x, torch.Tensor)]
            torch.autograd.backward([x.float().sum() for x in outputs if x.requires_grad])
    except Exception as error:  # a model may raise anything on a device it does not expect
        _logger.warning("no MFU: the model's operations cannot be counted (%r)", error)
        return None
    return float(counter.get_total_flops()) / len(inputs[0])
