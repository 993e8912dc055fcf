"""Pearson's chi-square test of homogeneity."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.cells import MIN_EXPECTED, table_of


class ChiSquare(DriftTest):
    """Total variation distance; missing and unknown values are categories like others.

    Rare cells are pooled into one; numbers are judged by tenths of the reference.
    """

    name = "chi2"
    judges = frozenset({"number", "category"})
    threshold = 0.05

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        table = table_of(bins, reference, window, MIN_EXPECTED)
        degrees = table.shape[1] - 1
        if degrees == 0:
            return ALIKE
        rows = table.sum(axis=1)
        expected = np.outer(rows, table.sum(axis=0) / rows.sum())
        statistic = float(((table - expected) ** 2 / expected).sum())
        shares = table / rows[:, None]
        effect = float(np.abs(shares[1] - shares[0]).sum() / 2)
        return Reading(effect, float(chdtrc(degrees, statistic)))
