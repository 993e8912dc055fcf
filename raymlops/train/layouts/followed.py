"""What a pass computes from some tensors, and whether anybody reads it: ways may follow from that.

if x.mean() > 0.3: ...     followed ──▶ compared ──▶ read: other rows may go another way
x * (x > 0.3)              followed ──▶ multiplied: every pass goes the same way
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_READING = {
    "__bool__", "__int__", "__float__", "__index__", "__contains__", "item", "tolist", "numpy",
    "is_nonzero", "equal", "allclose", "nonzero", "argwhere", "masked_select", "unique",
    "unique_consecutive",
}  # fmt: skip


class Followed(TorchFunctionMode):
    """Follows `tensors` and all that is computed from them within it, with what functions return
    that are called as one of `sources` is."""

    def __init__(
        self, tensors: Iterable[torch.Tensor] = (), *, sources: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.has_read = False
        self._sources = sources
        self._found = {id(each): each for each in tensors}  # held, so that no other takes its id

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
        follows = any(id(each) in self._found for each in given)
        self.has_read |= follows and (name in _READING or _selects(name, arguments))
        if follows or name in self._sources:
            self._found |= {id(each): each for each in _tensors(result)}
        return result


def _selects(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether how much comes back is a matter of numbers: x[mask], where(mask)."""
    if name == "__getitem__":
        return any(each.dtype == torch.bool for each in _tensors(arguments[1:]))
    return name == "where" and len(arguments) == 1


def _tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]
