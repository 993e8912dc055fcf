"""Jensen-Shannon: how far both distributions lie from their mixture."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc, rel_entr

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.cells import MIN_EXPECTED_OF_LOGARITHMS, table_of


class JensenShannon(DriftTest):
    """The distance, a root of the divergence in bits: 0 is alike, 1 is disjoint.

    Over tenths of the reference or categories. The p-value is that of the likelihood-ratio (G)
    test, whose statistic is the divergence with each side weighted by its rows.
    """

    name = "js"
    judges = frozenset({"number", "category"})
    threshold = 0.05

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        table = table_of(bins, reference, window, MIN_EXPECTED_OF_LOGARITHMS)
        whole = table.whole
        if whole.shape[1] == 1:
            return ALIKE
        shares = whole / whole.sum(axis=1, keepdims=True)
        divergence = rel_entr(shares, shares.mean(axis=0)).sum() / 2 / np.log(2)
        distance = float(np.sqrt(max(0.0, divergence)))
        return Reading(distance, table.p_value(_p_value))


def _p_value(table: Counts) -> float:
    rows = table.sum(axis=1)
    expected = np.outer(rows, table.sum(axis=0) / rows.sum())
    statistic = 2.0 * float(rel_entr(table, expected).sum())
    return float(chdtrc(table.shape[1] - 1, max(0.0, statistic)))
