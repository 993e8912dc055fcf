"""Outcomes of days that have weather of their own, as they come of one model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from raymlops.ledger import Outcomes

FIRST = datetime(2013, 1, 1, tzinfo=UTC)


def outcome(
    scores: object,
    labels: object,
    *,
    day: float = 0,
    arm: str = "champion",
    version: str = "1.0.0",
    slices: NDArray[np.uint16] | None = None,
) -> Outcomes:
    """One request, so many days after the first."""
    came = np.asarray(labels)
    happened = FIRST + timedelta(days=day)
    return Outcomes(
        version=version,
        arm=arm,
        sizes=np.array([len(came)]),
        days=np.array([(happened - datetime(1970, 1, 1, tzinfo=UTC)).days]),
        scores=np.asarray(scores, dtype=np.float32),
        labels=came,
        slices=slices,
    )


def month(rng: np.random.Generator, num_days: int = 30, shift: float = 0.0) -> list[Outcomes]:
    """The weather moves all labels of a day, and the model cannot see it."""
    days = []
    for day in range(num_days):
        logits = rng.normal(-1, 1, 20 + rng.integers(20))
        labels = rng.random(logits.size) < expit(logits + rng.normal(0, 0.7))
        days.append(outcome(expit(logits + shift), labels.astype(np.int8), day=day))
    return days
