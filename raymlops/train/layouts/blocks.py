"""The blocks of a model: what is gathered, recomputed and compiled as one."""

from __future__ import annotations

from collections import Counter

from torch import nn


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """By name, the members of the outermost module lists; without any, the children of a
    `Sequential` that have parameters, whether the model is one or holds it."""
    lists = _outermost(model, nn.ModuleList) or _outermost(model, nn.Sequential)
    return {
        f"{prefix}{name}": child
        for prefix, members in lists.items()
        for name, child in members.named_children()
        if next(child.parameters(), None) is not None
    }


def num_holders(model: nn.Module) -> Counter[nn.Parameter]:
    """How many modules of `model` hold each parameter: several where they are tied."""
    return Counter(
        parameter for module in model.modules() for parameter in module.parameters(recurse=False)
    )


def _outermost(model: nn.Module, kind: type[nn.Module], prefix: str = "") -> dict[str, nn.Module]:
    if isinstance(model, kind):
        return {prefix: model}
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        found |= _outermost(child, kind, f"{prefix}{name}.")
    return found
