"""Data drift: is a window of traffic still distributed as the training data was?

The tests and what counts as drift are those of `raymlops.data.drift`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from raymlops.data import OUTPUTS, SCORE, Counts, Profile
from raymlops.data.drift import (
    DriftPolicy,
    FeatureDrift,
    FeaturePolicy,
    Judged,
    debounced,
    holm,
    judge,
)
from raymlops.ledger import Drift

__all__ = [
    "DriftPolicy",
    "FeatureDrift",
    "FeaturePolicy",
    "compare",
    "earlier_looks",
    "holm",
    "judge_window",
]


def judge_window(
    profile: Profile,
    counts: Counts,
    policy: DriftPolicy,
    earlier: Sequence[Sequence[Judged]],
    *,
    num_more: int = 0,
) -> tuple[FeatureDrift, ...]:
    """`compare` as one look of many, after what was found `earlier` against the same profile.

    `num_more` looks were made beside these: at later windows, or at some of them again.
    """
    found = compare(profile, counts, policy, look=len(earlier) + num_more + 1)
    return debounced(found, earlier, policy, num_more=num_more)


def earlier_looks(
    rows: Iterable[Drift], version: str, *, before: datetime, since: datetime | None = None
) -> tuple[tuple[Drift, ...], ...]:
    """What was found in each window of `version` that ended before `before`, in order.

    `since` leaves out windows that ended by then: they were held against another reference.
    """
    looks: dict[datetime, list[Drift]] = {}
    for row in rows:
        if row.version != version or row.window_end >= before:
            continue
        if since is None or row.window_end > since:
            looks.setdefault(row.window_end, []).append(row)
    return tuple(tuple(looks[end]) for end in sorted(looks))


def compare(
    profile: Profile, counts: Counts, policy: DriftPolicy, *, look: int = 1
) -> tuple[FeatureDrift, ...]:
    """A verdict for each input in the profile's order, then one for the score.

    The score is no input, so it is judged apart: it neither costs the inputs power nor counts
    among their false alarms. Empty when the window has too few rows. `look` counts the windows held
    against this reference, this one included.
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
    inputs = [each for each in counted if each[0].name not in OUTPUTS]
    score = [each for each in counted if each[0].name in OUTPUTS]
    return (
        *judge(inputs, num_rows, policy, look=look),
        *judge(score, num_rows, policy, look=look),
    )
