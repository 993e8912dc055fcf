"""How far off a row counts in full: without a cap one wild label owns a mean of squared errors.

    |error|    ├── nine of ten ──┼───────── all but 1 in 1,000 ─────────┤   1e9
                                 q                                      cap ◄── counts as this

The cap is the error that one row in a thousand exceeds at training, and at least four times what
one in ten exceeds, which of normal errors is 6.6 deviations: heavy tails stay nearly what they are,
and neither figure is moved by a few labels, however wild. A model that fails as a whole is farther
off in more than one row of ten; there the cap grows, and the failure shows in its full size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAR_OFF_RATE = 0.1
"""How often a number is farther off than its tolerance, where a model does as at its training."""

WILD_RATE = 0.001
"""How often it is farther off than the cap then, at most."""

_TIMES = 4.0  # as far off as what one row in ten exceeds


@dataclass(frozen=True, kw_only=True)
class ErrorCap:
    """The `size`, in the unit of the label, that no error of a model counts for more than, and
    what its root mean squared error on unseen rows was at training with errors capped there."""

    size: float
    rmse: float

    @classmethod
    def of(cls, errors: NDArray[np.floating]) -> ErrorCap | None:
        """Of `errors` [unseen rows]; None of a model that was hardly ever off, where nothing says
        how far off is wild."""
        sizes = np.sort(np.abs(errors.astype(np.float64)))
        num_rare = math.ceil(WILD_RATE * sizes.size)
        rare = float(sizes[max(0, sizes.size - 1 - num_rare)])
        size = max(rare, _TIMES * _usual(sizes))
        if size == 0.0:
            return None
        return cls(size=size, rmse=math.sqrt(float(np.mean(np.minimum(sizes, size) ** 2))))


def cap_among(trained: float, *sides: NDArray[np.floating]) -> float:
    """The cap of rows, given that of the training and the sizes [rows] of the errors of all that
    are held against each other on them: it grows with the best of these, beside which a worse one
    shows well enough, and wild labels of the best count for no more."""
    usual = [_usual(sizes) for sizes in sides if sizes.size]
    return max(trained, _TIMES * min(usual, default=0.0))


def _usual(sizes: NDArray[np.floating]) -> float:
    """What one row in ten exceeds: that of a row, which neither the largest of few nor one that is
    infinite moves."""
    return float(np.quantile(sizes, 1.0 - FAR_OFF_RATE, method="lower"))
