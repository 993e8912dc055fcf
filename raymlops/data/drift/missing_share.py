"""Missing values: the difference of their shares."""

from __future__ import annotations

import numpy as np

from raymlops.data.bins import Bins, Counts
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.shares import p_value_of_shares


class MissingShare(DriftTest):
    """Difference of the shares in the last cell; the p-value is exact, or above that."""

    name = "missing"
    judges = frozenset({"number", "category"})
    threshold = 0.02

    def applies(self, reference: Counts, window: Counts) -> bool:
        known = reference[:-1].any() and window[:-1].any()
        return bool(not known or reference[-1] or window[-1])

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        rows = np.array([reference.sum(), window.sum()])
        if not rows.all():
            return ALIKE
        inside = np.array([reference[-1], window[-1]])
        before, after = inside / rows
        return Reading(float(abs(after - before)), p_value_of_shares(inside, rows))
