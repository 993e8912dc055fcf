"""The chi-square test of homogeneity, by the statistic of Cressie and Read."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.cells import MIN_EXPECTED, table_of


class ChiSquare(DriftTest):
    """Total variation distance; missing and unknown values are categories like others.

    Rare cells are put together; numbers are judged by tenths of the reference.

    The statistic lies between Pearson's and that of the G test: of windows of 500 rows in 300
    categories Pearson's is twice as often as it should beyond the quantile of 0.0001, and that is
    how far out one of fifty features is looked at; this one is not.

    N. Cressie, T. Read (1984), Multinomial goodness-of-fit tests.
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
    statistic = 9 / 5 * float((table * (np.cbrt(table / expected) ** 2 - 1.0)).sum())
    return float(chdtrc(table.shape[1] - 1, max(0.0, statistic)))
