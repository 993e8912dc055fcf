"""Outcomes of days that have weather of their own, as they come of one model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.special import expit

from raymlops.ledger import Outcome

FIRST = datetime(2013, 1, 1, tzinfo=UTC)


def outcome(scores: object, labels: object, *, day: float = 0, arm: str = "champion") -> Outcome:
    return Outcome(
        request_id=f"{arm}-{day}",
        version="1.0.0",
        arm=arm,
        event_time=FIRST + timedelta(days=day),
        scores=np.asarray(scores, dtype=np.float32),
        labels=np.asarray(labels),
    )


def month(rng: np.random.Generator, num_days: int = 30, shift: float = 0.0) -> list[Outcome]:
    """The weather moves all labels of a day, and the model cannot see it."""
    days = []
    for day in range(num_days):
        logits = rng.normal(-1, 1, 20 + rng.integers(20))
        labels = rng.random(logits.size) < expit(logits + rng.normal(0, 0.7))
        days.append(outcome(expit(logits + shift), labels.astype(np.int8), day=day))
    return days
