"""p-values adjusted for how many tests were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Correction = Literal["holm", "benjamini-hochberg"]


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Rejecting those under alpha errs at all with at most alpha, however they depend.

    S. Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Of those under alpha, at most the share alpha is expected to be false.

    Where nothing has drifted that is Holm's promise; where much has, more is found. Holds for
    independent tests and those that depend positively.

    Y. Benjamini, Y. Hochberg (1995), Controlling the false discovery rate.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(stepped[::-1])[::-1])
    return adjusted


CORRECTIONS: Mapping[Correction, Callable[[Sequence[float]], NDArray[np.float64]]] = {
    "holm": holm,
    "benjamini-hochberg": benjamini_hochberg,
}
