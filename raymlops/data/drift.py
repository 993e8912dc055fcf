"""Drift: are these rows still distributed as those were?

Works on counts by bin, so a million rows cost as much as a thousand, and windows counted by many
replicas are compared as one. The monitor judges traffic with it, expectations judge a dataset
against an earlier version. A feature has drifted when two things hold:
the difference is no accident (p-value, corrected for the number of features), and it is large
enough to matter (effect). All effects are differences of probabilities, between 0 and 1.

    numbers     ks       largest gap between the two distribution functions of the known values
                missing  difference of the shares of missing values
    categories  chi2     total variation distance; missing and unknown are categories like others

The p-values take rows as independent. Rows of one day are not, which makes small p-values
smaller than they should be; the floors under the effects are what keeps that from alarming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, chdtrc, kolmogorov

from raymlops.data.bins import Bins, CategoryBins, Counts

TestName = Literal["ks", "missing", "chi2"]

_CERTAIN = 1e-12  # p-values below this differ by the size of the window, not by what they tell
_MIN_EXPECTED = 5.0  # the usual limit below which chi-square is no longer a good approximation


@dataclass(frozen=True, kw_only=True)
class DriftPolicy:
    """What counts as drift.

    `alpha` bounds the probability that an unchanged window raises any alarm, over all inputs.
    The floors are effects that still do not matter: a normal feature that moves by a tenth of
    its standard deviation has a KS distance of 0.04, one that moves by a twentieth 0.02. Windows
    under `min_rows` are not judged.
    """

    alpha: float = 0.05
    min_ks: float = 0.02
    min_missing: float = 0.02
    min_total_variation: float = 0.05
    min_rows: int = 500

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha is {self.alpha}, not between 0 and 1")
        for name in ("min_ks", "min_missing", "min_total_variation"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, not within 0 and 1")
        if self.min_rows < 1:
            raise ValueError(f"min_rows is {self.min_rows}; a window needs a row to be judged")


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """How far one feature lies from its reference, by the test that tells most.

    `p_value` is adjusted for every test that was made beside it.
    """

    feature: str
    test: TestName
    num_rows: int
    effect: float
    p_value: float
    drifted: bool


def judge(
    counted: Iterable[tuple[Bins, Counts, Counts]], num_rows: int, policy: DriftPolicy
) -> tuple[FeatureDrift, ...]:
    """A verdict for each feature, in order, p-values adjusted for all of them.

    Args:
        counted: bins of each feature with the counts of its reference and of its window.
        num_rows: of the window.
    """
    tested = [
        (bins.name, _most_telling(list(_tests(bins, reference, window, policy))))
        for bins, reference, window in counted
    ]
    adjusted = holm([test.p_value for _, test in tested]).tolist()
    return tuple(
        FeatureDrift(
            feature=name,
            test=test.name,
            num_rows=num_rows,
            effect=test.effect,
            p_value=p_value,
            drifted=test.matters and p_value < policy.alpha,
        )
        for (name, test), p_value in zip(tested, adjusted, strict=True)
    )


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """p-values adjusted so that rejecting those under alpha errs at all with at most alpha.

    S. Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


@dataclass(frozen=True)
class _Test:
    name: TestName
    effect: float
    p_value: float
    floor: float

    @property
    def matters(self) -> bool:
        return self.effect > self.floor


def _most_telling(tests: list[_Test]) -> _Test:
    """The least likely test whose effect matters, of certain ones that with the largest effect.

    Its p-value is Bonferroni-adjusted, which covers any way of choosing among the tests.
    """

    def rank(test: _Test) -> tuple[bool, float, float]:
        return not test.matters, max(test.p_value, _CERTAIN), -test.effect

    best = min(tests, key=rank)
    p_value = min(1.0, best.p_value * len(tests))
    return _Test(best.name, best.effect, p_value, best.floor)


def _tests(bins: Bins, reference: Counts, window: Counts, policy: DriftPolicy) -> Iterator[_Test]:
    """The tests that can say something; which those are depends only on both windows' sum."""
    if isinstance(bins, CategoryBins):
        yield _Test("chi2", *_chi_square(reference, window), policy.min_total_variation)
        return
    known = bool(reference[:-1].any() and window[:-1].any())
    if known:
        yield _Test("ks", *_kolmogorov_smirnov(reference[:-1], window[:-1]), policy.min_ks)
    if not known or reference[-1] or window[-1]:
        yield _Test("missing", *_share_test(reference, window), policy.min_missing)


def _kolmogorov_smirnov(reference: Counts, window: Counts) -> tuple[float, float]:
    """Distance and two-sided p-value; cells are ties, which only makes the test more careful.

    M. A. Stephens (1970), Use of the Kolmogorov-Smirnov, Cramer-von Mises and related statistics
    without extensive tables: the correction that makes the limit hold from a few rows on.
    """
    m, n = int(reference.sum()), int(window.sum())
    distance = float(np.abs(np.cumsum(reference) / m - np.cumsum(window) / n).max())
    root = np.sqrt(m * n / (m + n))
    return distance, float(kolmogorov((root + 0.12 + 0.11 / root) * distance))


def _share_test(reference: Counts, window: Counts) -> tuple[float, float]:
    """Difference of the shares in the last cell and its two-sided p-value.

    Given how many rows of both windows are in the cell, those of the second are hypergeometric;
    the binomial used here has wider tails and stays honest where a z test does not, at none of
    80,000 against 3 of 500. The rarer side of the split is the one counted, to keep tails close.
    """
    m, n = int(reference.sum()), int(window.sum())
    if m == 0 or n == 0:
        return 0.0, 1.0
    inside = np.array([reference[-1], window[-1]])
    effect = float(abs(inside[1] / n - inside[0] / m))
    rarer = min(inside, np.array([m, n]) - inside, key=lambda split: int(split.sum()))
    total, seen, share = int(rarer.sum()), int(rarer[1]), n / (m + n)
    tails = bdtr(seen, total, share), bdtrc(seen - 1, total, share)
    return effect, min(1.0, 2.0 * float(min(tails)))


def _chi_square(reference: Counts, window: Counts) -> tuple[float, float]:
    """Total variation distance and the p-value of homogeneity, rare cells pooled into one."""
    table = np.stack([reference, window])
    table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    rows = table.sum(axis=1)
    if not rows.all():
        return 0.0, 1.0
    least = table.sum(axis=0) * rows.min() / rows.sum()  # ascending expected counts
    num_rare = int(np.searchsorted(least, _MIN_EXPECTED))
    if num_rare and least[:num_rare].sum() < _MIN_EXPECTED:
        num_rare += 1
    starts = [0, *range(max(num_rare, 1), table.shape[1])]
    pooled = np.add.reduceat(table, starts, axis=1)
    expected = np.outer(rows, pooled.sum(axis=0) / rows.sum())
    statistic = float(((pooled - expected) ** 2 / expected).sum())
    shares = pooled / rows[:, None]
    effect = float(np.abs(shares[1] - shares[0]).sum() / 2)
    degrees = len(starts) - 1
    return effect, float(chdtrc(degrees, statistic)) if degrees else 1.0
