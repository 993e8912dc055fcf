"""Data drift: is a window of traffic still distributed as the training data was?

The tests and what counts as drift are those of `raymlops.data.drift`.
"""

from __future__ import annotations

import numpy as np

from raymlops.data import SCORE, Counts, Profile
from raymlops.data.drift import DriftPolicy, FeatureDrift, holm, judge

__all__ = ["DriftPolicy", "FeatureDrift", "compare", "holm"]


def compare(profile: Profile, counts: Counts, policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
    """A verdict for each input in the profile's order, then one for the score.

    The score is no input, so it is judged apart: it neither costs the inputs power nor counts
    among their false alarms. Empty when the window has too few rows.
    """
    if counts.shape != (profile.num_cells,):
        raise ValueError(f"counts have shape {counts.shape}, the profile {profile.num_cells} cells")
    num_rows = int(counts[profile.cells[SCORE]].sum())
    if num_rows < policy.min_rows:
        return ()
    reference = np.asarray(profile.reference, dtype=np.int64)
    counted = [
        (bins, reference[cells], counts[cells])
        for bins, cells in zip(profile.bins, profile.cells.values(), strict=True)
    ]
    inputs = [each for each in counted if each[0].name != SCORE]
    score = [each for each in counted if each[0].name == SCORE]
    return (*judge(inputs, num_rows, policy), *judge(score, num_rows, policy))
