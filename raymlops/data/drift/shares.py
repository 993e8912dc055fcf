"""How likely it is that two shares differ as much, whatever the number of rows."""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, bdtrc

from raymlops.data.bins import Counts


def p_value_of_shares(inside: Counts, rows: Counts) -> float:
    """Two-sided, that `inside` of `rows`, both [2], are the same share.

    Given how many rows of both windows are inside, those of the second are hypergeometric; the
    binomial used here has wider tails and stays honest where a z test does not, at none of 80,000
    against 3 of 500. The rarer side of the split is the one counted, to keep tails close.
    """
    rarer = min(inside, rows - inside, key=lambda split: int(split.sum()))
    total, seen, share = int(rarer.sum()), int(rarer[1]), float(rows[1] / rows.sum())
    tails = bdtr(seen, total, share), bdtrc(seen - 1, total, share)
    return min(1.0, 2.0 * float(np.min(tails)))
