"""A recorder for the CPU that behaves as a CUDA graph: fixed memory, and no second thoughts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raymlops.train.devices import Cpu
from raymlops.train.replay import Recorder


class Tape(Recorder):
    """Notes every operation with the very tensors it read, and repeats it into those it made.

    As on a GPU what is copied beside these tensors is not seen, and `run` is called more than once.
    """

    def __init__(self) -> None:
        self.num_recordings = 0
        self.num_replays = 0

    def record(self, run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        self.num_recordings += 1
        run()
        with _Noting() as noting:
            result = run()

        def again() -> torch.Tensor:
            self.num_replays += 1
            with torch.no_grad():
                for operation in noting.operations:
                    _repeat(*operation)
            return result

        return again


class TapedCpu(Cpu):
    """A CPU that replays."""

    def __init__(self) -> None:
        super().__init__()
        self.tape = Tape()

    def recorder(self) -> Recorder:
        return self.tape


class _Noting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made


def _repeat(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
    read = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
    for old, new in zip(_tensors(made), _tensors(func(*args, **kwargs)), strict=True):
        if old.untyped_storage().data_ptr() not in read:  # a view, or written in place
            old.copy_(new)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
