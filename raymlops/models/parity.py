"""Whether two models predict the same, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ParityError


def check_parity(
    got: NDArray[Any], wanted: NDArray[Any], *, tolerance: float, of: str, original: str
) -> None:
    """Returns quietly when `got`, [rows] or [rows, k], is `wanted` within
    `tolerance` * max(1, |wanted|).

    Raises:
        ParityError: names the worst row and both values.
    """
    if got.shape != wanted.shape:
        raise ParityError(f"{of} gives shape {got.shape}, {original} {wanted.shape}")
    # Truth values cannot be subtracted, and unsigned numbers not below zero.
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if not wanted.size:
        raise ParityError("there are no rows to compare; give at least two real ones")
    excess = np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    if not excess[worst] <= tolerance:  # also when it is NaN
        raise ParityError(
            f"row {worst[0]} of {len(got)}: {of} gives {got[worst]:.6g}, {original} "
            f"{wanted[worst]:.6g}; they may differ by {tolerance:g}"
        )
