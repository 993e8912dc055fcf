"""Pearson's chi-square test of homogeneity."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.cells import MIN_EXPECTED, table_of


class ChiSquare(DriftTest):
    """Total variation distance; missing and unknown values are categories like others.

    Rare cells are put together; numbers are judged by tenths of the reference.
    """

    name = "chi2"
    judges = frozenset({"number", "category"})
    threshold = 0.05

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        table = table_of(bins, reference, window, MIN_EXPECTED)
        whole = table.whole
        if whole.shape[1] == 1:
            return ALIKE
        shares = whole / whole.sum(axis=1, keepdims=True)
        effect = float(np.abs(shares[1] - shares[0]).sum() / 2)
        return Reading(effect, table.p_value(_p_value))


def _p_value(table: Counts) -> float:
    rows = table.sum(axis=1)
    expected = np.outer(rows, table.sum(axis=0) / rows.sum())
    statistic = float(((table - expected) ** 2 / expected).sum())
    return float(chdtrc(table.shape[1] - 1, statistic))
