"""The random numbers of a process that are not torch's: Python's and numpy's, which models draw.

They have one state in a process, whatever thread draws.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

States: TypeAlias = dict[str, NDArray[np.int64]]
"""By the name of the generator: its integers, whether a normal number is left over, its bits."""

NAMES = ("python", "numpy")
_VERSION = 3  # of what random.getstate returns


def seed_others(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002  # what models draw from


def states() -> States:
    """The states of both."""
    _, integers, normal = random.getstate()
    held: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    _, keys, position, has_normal, cached = held
    return {
        "python": _packed(integers, normal is not None, normal or 0.0),
        "numpy": _packed((*keys.tolist(), position), bool(has_normal), cached),
    }


def set_states(found: Mapping[str, NDArray[np.int64]]) -> None:
    """Puts back those that are there."""
    if "python" in found:
        integers, has_normal, normal = _unpacked(found["python"])
        random.setstate((_VERSION, tuple(integers), normal if has_normal else None))
    if "numpy" in found:
        (*keys, position), has_normal, normal = _unpacked(found["numpy"])
        state = ("MT19937", np.array(keys, np.uint32), position, int(has_normal), normal)
        np.random.set_state(state)  # noqa: NPY002


Drawn: TypeAlias = tuple[Any, Any]
"""How far both have drawn, in this process alone: quicker than `states`."""


def drawn() -> Drawn:
    return random.getstate(), np.random.get_state(legacy=True)  # noqa: NPY002


@contextmanager
def drawing_from(found: Drawn) -> Iterator[None]:
    """What is drawn inside is what was drawn after `found`, and what follows is as without it."""
    before = drawn()
    _go_to(found)
    try:
        yield
    finally:
        _go_to(before)


@contextmanager
def kept() -> Iterator[None]:
    """What is drawn inside is drawn again after."""
    with drawing_from(drawn()):
        yield


def _go_to(found: Drawn) -> None:
    of_python, of_numpy = found
    random.setstate(of_python)
    np.random.set_state(of_numpy)  # noqa: NPY002


def _packed(integers: tuple[int, ...], has_normal: bool, normal: float) -> NDArray[np.int64]:
    bits = int(np.array(normal, np.float64).view(np.int64))
    return np.array([*integers, has_normal, bits], np.int64)


def _unpacked(packed: NDArray[np.int64]) -> tuple[list[int], bool, float]:
    *integers, has_normal, bits = packed.tolist()
    return integers, bool(has_normal), float(np.array(bits, np.int64).view(np.float64))
