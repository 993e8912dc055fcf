"""Training and evaluation mode, module by module: `train()` and `eval()` know but one for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def keeping_modes(*models: nn.Module) -> Iterator[None]:
    """Every module of `models` is in the same mode, training or evaluation, as before."""
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def in_evaluation(models: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules of `models` that are in evaluation mode, whatever those around them are in."""
    return [module for model in models for module in model.modules() if not module.training]


def train_but(frozen: Iterable[nn.Module], models: Iterable[nn.Module]) -> None:
    """Puts `models` in training mode, except `frozen` of their modules.

    All are told to train first: a module may have a `train` of its own, which freezes parts of it.
    """
    for model in models:
        model.train()
    for module in frozen:
        module.training = False
