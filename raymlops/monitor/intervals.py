"""Intervals that stay honest where rows are alike.

Rows of one request, and of one day, share their weather: a month of 10,000 rows may say no more
than 30 independent ones. So a metric's variance is taken between clusters, not between rows.

Every metric is a smooth function of the data, so its error is the sum over rows of an influence:
how far the metric moves when that row weighs a little more. With influences summed by cluster to
u_1 .. u_G,

    value ± t(0.975, G - 1) · sqrt(G / (G - 1) · Σ u_g²)

K.-Y. Liang, S. L. Zeger (1986), Longitudinal data analysis using generalized linear models.

Where all clusters agree on the best or the worst there is, their variance is none, and the interval
is that of something that was never seen.

What cannot be said is NaN: an interval from one cluster, anything about a value that is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Vector = NDArray[np.float64]
Clusters = NDArray[np.int64]
"""The cluster of each row, [rows], as numbers that only need to differ."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric over `num_rows` rows and its 95 % interval."""

    metric: str
    num_rows: int
    value: float
    low: float
    high: float


def mean(
    metric: str, values: Vector, clusters: Clusters, low: float = 0.0, high: float = 1.0
) -> Estimate:
    """Of `values` [rows], which cannot leave [low, high]."""
    if values.size == 0:
        return undefined(metric, 0)
    centre = float(values.mean())
    return estimate(metric, centre, (values - centre) / values.size, clusters, low, high)


def counted_mean(
    metric: str, values: Vector, counts: Vector, low: float = 0.0, high: float = 1.0
) -> Estimate:
    """Of `values`, each of which `counts` rows have, every row a cluster of its own."""
    total = float(counts.sum())
    if total == 0.0:
        return undefined(metric, 0)
    centre = float(counts @ values) / total
    margin = math.nan
    if total > 1:
        error = math.sqrt(float(counts @ (values - centre) ** 2) / (total - 1) / total)
        margin = float(stdtrit(total - 1, 0.975)) * error
    return _within(metric, int(total), centre, margin, low, high)


def ratio(
    metric: str,
    above: Vector,
    below: Vector,
    clusters: Clusters,
    low: float = 0.0,
    high: float = 1.0,
) -> Estimate:
    """The sum of `above` by that of `below`, both [rows]; undefined where nothing is below."""
    total = float(below.sum())
    if total == 0.0:
        return undefined(metric, below.size)
    value = float(above.sum()) / total
    return estimate(metric, value, (above - value * below) / total, clusters, low, high)


def estimate(
    metric: str, value: float, influence: Vector, clusters: Clusters, low: float, high: float
) -> Estimate:
    """`value` and its interval, cut to what the metric can be, within `low` and `high`."""
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, weights=influence)
    margin = math.nan
    if sums.size > 1:
        error = math.sqrt(sums.size / (sums.size - 1) * float(sums @ sums))
        margin = float(stdtrit(sums.size - 1, 0.975)) * error
        if error == 0.0 and value in (low, high) and math.isfinite(high - low):
            margin = _never_seen(sums.size) * (high - low)
    return _within(metric, influence.size, value, margin, low, high)


def _never_seen(num_clusters: int) -> float:
    """How frequent something may be that none of so many clusters has, with 97.5 % confidence.

    C. Clopper, E. Pearson (1934), The use of confidence or fiducial limits.
    """
    return float(-np.expm1(math.log(0.025) / num_clusters))


def _within(
    metric: str, num_rows: int, value: float, margin: float, low: float, high: float
) -> Estimate:
    return Estimate(
        metric=metric,
        num_rows=num_rows,
        value=value,
        low=float(np.maximum(value - margin, low)),
        high=float(np.minimum(value + margin, high)),
    )


def undefined(metric: str, num_rows: int) -> Estimate:
    return Estimate(metric=metric, num_rows=num_rows, value=math.nan, low=math.nan, high=math.nan)
