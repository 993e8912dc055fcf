"""Which rows are farther off than their model's errors go, and whose fault that is.

An error beyond its cap (`raymlops.data.error_cap`) is owed to whichever lies farther from what
labels usually are. A label of 1e9 among temperatures is wild, whatever the model said. Where the
model says 1e9 of a day like any other, its answer is absurd; that it is only beyond ten caps, where
no tail of errors reaches: an answer that is just bad costs enough by what its error counts for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Profile
from raymlops.data.error_cap import cap_among
from raymlops.ledger import Outcomes

_ABSURD = 10.0  # caps

Mask = NDArray[np.bool_]


class Far(NamedTuple):
    """Of which rows the label is wild, and of which the answer is absurd; both [rows]."""

    wild: Mask
    absurd: Mask


def far_rows(said: NDArray[Any], came: NDArray[Any], *, cap: float, usual: float) -> Far:
    """Of rows of which a model `said` a number and another one `came` true, [rows] each."""
    sizes = _sizes(said, came)
    is_of_label = np.abs(came - usual) >= np.abs(said.astype(np.float64) - usual)
    return Far((sizes > cap) & is_of_label, (sizes > _ABSURD * cap) & ~is_of_label)


def held_to(champion: Profile, challenger: Profile) -> Profile:
    """Which of both profiles tells how far off is wild of both: the champion's, unless that was
    made before anybody kept it."""
    return challenger if champion.error_cap is None else champion


class FarCounts(NamedTuple):
    """The `cap` of the errors of both, None where no such is known, how many labels are wild, and
    how many answers of each are absurd."""

    cap: float | None = None
    wild: int = 0
    champion_absurd: int = 0
    challenger_absurd: int = 0


def far_of_both(
    champion: NDArray[Any], challenger: NDArray[Any], came: NDArray[Any], profile: Profile
) -> FarCounts:
    """Of the numbers that both said of the same rows, all [rows], given the `profile` that both are
    held to."""
    if profile.error_cap is None:
        return FarCounts()
    cap = cap_among(profile.error_cap.size, _sizes(champion, came), _sizes(challenger, came))
    found = [
        far_rows(said, came, cap=cap, usual=profile.label_rate) for said in (champion, challenger)
    ]
    return FarCounts(
        cap, int((found[0].wild | found[1].wild).sum()), *(int(far.absurd.sum()) for far in found)
    )


def far_of_arms(
    champion: Sequence[Outcomes], challenger: Sequence[Outcomes], profile: Profile
) -> FarCounts:
    """Of two arms, on different rows: as answers count requests, whose rows are alike."""
    if profile.error_cap is None:
        return FarCounts()
    arms = (champion, challenger)
    sizes = [[_sizes(each.scores, each.labels) for each in arm] for arm in arms]
    cap = cap_among(
        profile.error_cap.size, *(np.concatenate([np.empty(0), *some]) for some in sizes)
    )
    found = [
        [far_rows(each.scores, each.labels, cap=cap, usual=profile.label_rate) for each in arm]
        for arm in arms
    ]
    return FarCounts(
        cap,
        sum(int(far.wild.sum()) for arm in found for far in arm),
        *map(_num_absurd, arms, found),
    )


def _num_absurd(arm: Sequence[Outcomes], found: Sequence[Far]) -> int:
    """Requests of which a row is."""
    return sum(
        len(np.unique(each.request_of[far.absurd])) for each, far in zip(arm, found, strict=True)
    )


def _sizes(said: NDArray[Any], came: NDArray[Any]) -> NDArray[np.float64]:
    """Those of the errors, [rows]."""
    sizes: NDArray[np.float64] = np.abs(said.astype(np.float64) - came)
    return sizes
