"""Population stability index: the relative entropies of both directions, added."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.cells import MIN_EXPECTED_OF_LOGARITHMS, table_of

_PRIOR = 0.5  # rows added to each cell, so that an empty one is not infinitely far


class PopulationStability(DriftTest):
    """The index banks use, sum of (q - p) ln(q / p), over tenths of the reference or categories.

    The usual limits are 0.1 (some) and 0.25 (much). Blind to little: a normal feature that moves
    by a tenth of its standard deviation has an index of 0.01. Where nothing drifts it is
    distributed as (1/m + 1/n) chi-square: B. Yurdakul, J. Naranjo (2020), Statistical properties
    of the population stability index.
    """

    name = "psi"
    judges = frozenset({"number", "category"})
    threshold = 0.1

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        table = table_of(bins, reference, window, MIN_EXPECTED_OF_LOGARITHMS)
        whole = table.whole
        if whole.shape[1] == 1:
            return ALIKE
        return Reading(_index(whole), table.p_value(_p_value))


def _index(table: Counts) -> float:
    p, q = (table + _PRIOR) / (table + _PRIOR).sum(axis=1, keepdims=True)
    return float(((q - p) * np.log(q / p)).sum())


def _p_value(table: Counts) -> float:
    m, n = table.sum(axis=1)
    return float(chdtrc(table.shape[1] - 1, _index(table) / (1 / m + 1 / n)))
