"""Performance by slice: a model that does well on the whole may do badly for some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Profile
from raymlops.data.slices import cells_by, parts_of
from raymlops.ledger import Outcomes
from raymlops.monitor.intervals import Estimate

_METRICS = (
    "log_loss", "roc_auc", "accuracy", "macro_f1", "label_rate", "mae", "rmse", "capped_rmse",
    "bias", "ndcg_loss", "ndcg_at_10", "map_at_10",
)  # fmt: skip
_MIN_ROWS = 100  # below that an interval is too wide to tell anything
_MAX_PARTS = 20  # of one feature, the largest
_UNKNOWN = -1  # the part of rows whose profile does not know the feature


@dataclass(frozen=True, kw_only=True)
class SliceEstimate:
    feature: str
    part: str
    estimate: Estimate


def measure_slices(
    outcomes: Sequence[Outcomes],
    slice_by: tuple[str, ...],
    profile: Profile,
    measure: Callable[[Sequence[Outcomes]], Sequence[Estimate]],
) -> Iterator[SliceEstimate]:
    """What `measure` tells of each large enough part of each feature.

    The `outcomes` are of one version. What was recorded while the settings named other features
    is left out.
    """
    known = [
        (outcome, cells)
        for outcome in outcomes
        if outcome.slices is not None and (cells := cells_by(slice_by, outcome.slices)) is not None
    ]
    for index, feature in enumerate(slice_by):
        names, part_of = _parts(parts_of(profile, feature))
        parts = [part_of[np.minimum(cells[index], len(part_of) - 1)] for _, cells in known]
        for part in _largest(parts):
            chosen = [
                outcome.only(inside)
                for (outcome, _), rows in zip(known, parts, strict=True)
                if (inside := rows == part).any()
            ]
            for estimate in measure(chosen):
                if estimate.metric in _METRICS:
                    yield SliceEstimate(feature=feature, part=names[part], estimate=estimate)


def _parts(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """(the name of each part, the part of each cell and of the one after the last), given the name
    of the part of each cell."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return list(numbers), np.array([*(numbers[name] for name in names), _UNKNOWN])


def _largest(parts: Sequence[NDArray[np.int64]]) -> list[int]:
    """The parts with enough rows, the largest first."""
    if not parts:
        return []
    numbers, sizes = np.unique(np.concatenate(parts), return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    large = [int(numbers[i]) for i in order if sizes[i] >= _MIN_ROWS and numbers[i] != _UNKNOWN]
    return large[:_MAX_PARTS]
