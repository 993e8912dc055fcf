"""Missing values: the difference of their shares."""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, bdtrc

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading


class MissingShare(DriftTest):
    """Difference of the shares in the last cell.

    Given how many rows of both windows are in the cell, those of the second are hypergeometric;
    the binomial used here has wider tails and stays honest where a z test does not, at none of
    80,000 against 3 of 500. The rarer side of the split is the one counted, to keep tails close.
    """

    name = "missing"
    judges = frozenset({"number", "category"})
    threshold = 0.02

    def applies(self, reference: Counts, window: Counts) -> bool:
        known = reference[:-1].any() and window[:-1].any()
        return bool(not known or reference[-1] or window[-1])

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        m, n = int(reference.sum()), int(window.sum())
        if m == 0 or n == 0:
            return ALIKE
        inside = np.array([reference[-1], window[-1]])
        effect = float(abs(inside[1] / n - inside[0] / m))
        rarer = min(inside, np.array([m, n]) - inside, key=lambda split: int(split.sum()))
        total, seen, share = int(rarer.sum()), int(rarer[1]), n / (m + n)
        tails = bdtr(seen, total, share), bdtrc(seen - 1, total, share)
        return Reading(effect, min(1.0, 2.0 * float(min(tails))))
