"""Kolmogorov-Smirnov: the largest gap between two distribution functions."""

from __future__ import annotations

import numpy as np
from scipy.special import kolmogorov

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading


class KolmogorovSmirnov(DriftTest):
    """The gap between the known values, a difference of probabilities.

    It is looked for at the edges of the bins alone, so it is at most one bin's share below that of
    the raw values, and the p-value never below what the same limit says of those. The limit is no
    bound: of 100 rows on either side it lies up to a quarter below the exact p-value, of 1,000 a
    tenth, where that is above 0.0001. Ties only make the test more careful.

    M. A. Stephens (1970), Use of the Kolmogorov-Smirnov, Cramer-von Mises and related statistics
    without extensive tables: the correction that makes the limit hold from a few rows on.
    """

    name = "ks"
    judges = frozenset({"number"})
    threshold = 0.02

    def applies(self, reference: Counts, window: Counts) -> bool:
        return bool(reference[:-1].any() and window[:-1].any())

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        m, n = int(reference[:-1].sum()), int(window[:-1].sum())
        if m == 0 or n == 0:
            return ALIKE
        gaps = np.abs(np.cumsum(reference[:-1]) / m - np.cumsum(window[:-1]) / n)
        distance = float(gaps.max())
        root = np.sqrt(m * n / (m + n))
        return Reading(distance, float(kolmogorov((root + 0.12 + 0.11 / root) * distance)))
