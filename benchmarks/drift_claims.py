"""How often drift is found where there is none, and where there is.

Continuous features are drawn as counts, not as rows: the reference fills its quantile bins evenly,
and the window's share of each bin is a sum of spacings of uniform order statistics, which is a
Dirichlet variable. That is the very distribution rows would give, whatever the features' own (bins
of quantiles know ranks alone), at a millionth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import poisson

from raymlops.data import Counts, NumberBins
from raymlops.data.bins import quantile_bins
from raymlops.data.drift import DriftPolicy, judge

NUM_FEATURES = 50
NO_FLOORS = DriftPolicy(thresholds={"ks": 0.0}, spending=False)
SPENT_NO_FLOORS = DriftPolicy(thresholds={"ks": 0.0})

Counted = list[tuple[NumberBins, Counts, Counts]]
Draw = Callable[[np.random.Generator, int], Counted]

_NUM_EDGES = 256


class Reference:
    """The bins of `num_rows` reference rows of one normal feature."""

    def __init__(self, rng: np.random.Generator, num_rows: int) -> None:
        ranks = np.ceil(np.arange(1, _NUM_EDGES) * num_rows / _NUM_EDGES).astype(np.int64)
        inside = np.diff([1, *ranks, num_rows + 1])
        self.counts = np.array([*inside, 0, 0])  # none above the largest, none missing
        spacings = rng.gamma(np.diff([0, *ranks, num_rows, num_rows + 1]).astype(np.float64))
        self._edges = ndtri(np.cumsum(spacings)[:-1] / spacings.sum())

    def window(self, rng: np.random.Generator, num_rows: int, shift: float = 0.0) -> Counts:
        """The counts of rows of which each is larger by `shift` standard deviations."""
        shares = np.diff(ndtr(self._edges - shift), prepend=0.0, append=1.0)
        return np.append(rng.multinomial(num_rows, shares), 0)


BINS = NumberBins(name="x", edges=tuple(np.arange(float(_NUM_EDGES)).tolist()))


def independent(rng: np.random.Generator, num_rows: int) -> Counted:
    """Continuous features, heavy-tailed or not."""
    references = [Reference(rng, num_rows) for _ in range(NUM_FEATURES)]
    return [(BINS, each.counts, each.window(rng, num_rows)) for each in references]


def tied(rng: np.random.Generator, num_rows: int) -> Counted:
    """Counts of events, 5 on average: a bin for each of 0 to 11, one for more."""
    shares = poisson.pmf(np.arange(12), 5.0)
    shares = np.append(shares, 1.0 - shares.sum())
    bins = NumberBins(name="x", edges=tuple(np.arange(14.0).tolist()))
    sides = rng.multinomial(num_rows, shares, size=(NUM_FEATURES, 2))
    return [(bins, np.array([0, *a, 0, 0]), np.array([0, *b, 0, 0])) for a, b in sides]


def correlated(rng: np.random.Generator, num_rows: int) -> Counted:
    """Features of which each pair has a correlation of 0.5; with the tails of Student's t(2)."""

    def rows() -> NDArray[np.float64]:
        common, own = rng.normal(size=(num_rows, 1)), rng.normal(size=(num_rows, NUM_FEATURES))
        wide = np.sqrt(rng.chisquare(2, size=(num_rows, 1)) / 2)
        drawn: NDArray[np.float64] = (common + own) / np.sqrt(2) / wide
        return drawn

    reference, window = rows(), rows()
    bins = [quantile_bins("x", column) for column in reference.T]
    columns = zip(bins, reference.T, window.T, strict=True)
    return [(each, each.count(before), each.count(after)) for each, before, after in columns]


def false_alarms(draw: Draw, num_rows: int, rounds: int, *, seed: int = 0) -> float:
    """The share of checks of 50 unchanged features with any alarm, at alpha 0.05, no floors."""
    rng = np.random.default_rng(seed)
    return fmean(
        any(row.drifted for row in judge(draw(rng, num_rows), num_rows, NO_FLOORS))
        for _ in range(rounds)
    )


def false_alarms_over_looks(
    num_looks: int, num_rows: int, rounds: int, policy: DriftPolicy = SPENT_NO_FLOORS
) -> float:
    """The share of unchanged models of which any of `num_looks` windows alarms; one reference."""
    rng = np.random.default_rng(1)

    def looks() -> Iterator[bool]:
        references = [Reference(rng, 10 * num_rows) for _ in range(NUM_FEATURES)]
        for look in range(1, num_looks + 1):
            counted = [(BINS, each.counts, each.window(rng, num_rows)) for each in references]
            yield any(row.drifted for row in judge(counted, num_rows, policy, look=look))

    return fmean(any(looks()) for _ in range(rounds))


def power(shift: float, num_rows: int, rounds: int, *, num_shifted: int = 5) -> float:
    """The share of shifted features, 5 of 50, that the policy as it comes finds at first look."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(rounds):
        shifts = [shift] * num_shifted + [0.0] * (NUM_FEATURES - num_shifted)
        counted = []
        for each in shifts:
            reference = Reference(rng, 100_000)
            counted.append((BINS, reference.counts, reference.window(rng, num_rows, each)))
        verdicts = judge(counted, num_rows, DriftPolicy())
        found += sum(row.drifted for row in verdicts[:num_shifted])
    return found / (rounds * num_shifted)


def alarms(shift: float, num_rows: int, rounds: int) -> int:
    """How many of 50 features, all shifted by little, alarm in all rounds together."""
    return round(power(shift, num_rows, rounds, num_shifted=50) * rounds * NUM_FEATURES)
