"""Whether two models predict the same, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ParityError

_SMALL = 0.01
"""Of what lies below, what may be off beside 1 would be no small part."""


def check_parity(
    got: NDArray[Any], wanted: NDArray[Any], *, tolerance: float, of: str, original: str
) -> None:
    """Returns quietly when `got`, [rows] or [rows, k], is `wanted` within
    `tolerance` * max(1, |wanted|), or, where all that is wanted is small, as numbers of a large
    unit are, within `tolerance` of the largest.

    Raises:
        ParityError: says how many rows differ, and of the worst one which output, both values and
            what they may differ by.
    """
    if got.shape != wanted.shape:
        raise ParityError(f"{of} gives shape {got.shape}, {original} {wanted.shape}")
    # Truth values cannot be subtracted, and unsigned numbers not below zero.
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if not wanted.size:
        raise ParityError("there are no rows to compare; give at least two real ones")
    sizes = np.abs(wanted)
    largest = float(sizes.max(initial=0.0, where=np.isfinite(sizes)))
    unit = largest if 0.0 < largest < _SMALL else 1.0
    allowed = tolerance * np.maximum(unit, sizes)
    with np.errstate(invalid="ignore"):  # what is infinite in both has no difference
        difference = np.abs(got - wanted)
    broken = ~(difference <= allowed)  # also where it is NaN
    if not broken.any():
        return
    excess = np.where(np.isnan(difference), np.inf, difference - allowed)
    row, *output = worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    num_rows = int(broken.reshape(len(broken), -1).any(axis=1).sum())
    place = f"row {row}" + (f", output {output[0]} of {got.shape[1]}" if output else "")
    one, other = _told_apart(float(got[worst]), float(wanted[worst]))
    is_finite = np.isfinite([got[worst], wanted[worst]]).all()
    rule = f"they may differ by {allowed[worst]:.3g}" if is_finite else "answers have to be finite"
    raise ParityError(
        f"{num_rows} of {len(got)} rows differ, the most {place}: {of} gives {one}, {original} "
        f"{other}; {rule}"
    )


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Both with six digits, or with as many as tell one from the other."""
    for digits in range(6, 18):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
