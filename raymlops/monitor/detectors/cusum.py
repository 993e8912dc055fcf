"""Mixture CUSUM: far more errors than the reference error rate makes, since some label."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymlops.monitor.detectors.base import Detector, Values

# How far the odds of an error may have risen: exp(0.4) is 0.10 to 0.14, exp(1) is 0.10 to 0.23.
# Between two of them a detector for either loses little.
_RISES = (0.4, 0.6, 0.8, 1.0)
_UNIT = 2.0**-40  # nats: log likelihoods are whole numbers of these, so that their sums are exact


@dataclass
class _Memory:
    """Of each alternative: the log likelihood ratio of all errors, in units, and the log of the
    sum over possible starts k of 1 / (likelihood ratio before k), None before the first error."""

    ratios: list[int]
    starts: list[float] | None = None


class Cusum(Detector[_Memory]):
    """Knows `reference_rate`, the error rate p_0 the model had when it was released, and weighs
    it against the rates p_j that it might have risen to at any label k:

        R_n = mean over j of  Σ_k≤n  Π_k≤i≤n  f_j(x_i) / f_0(x_i),     alarm when R_n ≥ A

    with f the probability of a right or wrong answer. Where a single CUSUM takes the most
    likely start, this sums over all of them: then R_n - n is a martingale while nothing changes,
    and the mean number of labels to a false alarm is at least A = `labels_per_false_alarm`. For
    errors between 0 and 1 the bound holds, too, since the ratio is convex in them.

    E. S. Page (1954), Continuous inspection schemes; S. W. Roberts (1966), A comparison of some
    control chart procedures; M. Pollak (1987), Average run lengths of an optimal method of
    detecting a change in distribution.
    """

    kind = "cusum"
    bounds = (0.0, 1.0)

    def __init__(self, *, reference_rate: float, labels_per_false_alarm: float = 20_000.0) -> None:
        if not 0 < reference_rate < 1:
            raise ValueError(f"reference_rate is {reference_rate}, not between 0 and 1")
        if labels_per_false_alarm <= 1:
            raise ValueError(
                f"labels_per_false_alarm is {labels_per_false_alarm:g}; one alarm a label is no use"
            )
        odds = reference_rate / (1 - reference_rate) * np.exp(_RISES)
        risen = odds / (1 + odds)
        self._if_wrong = np.log(risen / reference_rate)[:, np.newaxis]
        self._if_right = np.log((1 - risen) / (1 - reference_rate))[:, np.newaxis]
        # No sum of terms reaches the limit before one of them reaches the limit's share; the last
        # bits are left to rounding.
        self._limit = math.log(labels_per_false_alarm * len(_RISES))
        self._least = math.log(labels_per_false_alarm) - 1e-9
        super().__init__()

    def _fresh(self) -> _Memory:
        return _Memory(ratios=[0] * len(_RISES))

    def _advance(self, values: Values) -> int | None:
        memory = self._memory
        before = np.array(memory.ratios)[:, np.newaxis]
        gains = values * self._if_wrong + (1.0 - values) * self._if_right
        ratios = before + np.cumsum(np.rint(gains / _UNIT).astype(np.int64), axis=1)
        starts = self._starts(memory, np.hstack([before, ratios[:, :-1]]))
        memory.ratios = ratios[:, -1].tolist()
        memory.starts = starts[:, -1].tolist()
        terms = ratios * _UNIT + starts
        if terms.max() < self._least:
            return None
        above = np.flatnonzero(np.logaddexp.reduce(terms, axis=0) >= self._limit)
        return int(above[0]) if above.size else None

    def _starts(self, memory: _Memory, before: NDArray[np.int64]) -> Values:
        """Log of the sum over starts, [alternatives, values], one more start a value."""
        terms = before * -_UNIT
        if memory.starts is None:
            return np.logaddexp.accumulate(terms, axis=1)
        first = np.array(memory.starts)[:, np.newaxis]
        sums: Values = np.logaddexp.accumulate(np.hstack([first, terms]), axis=1)[:, 1:]
        return sums
