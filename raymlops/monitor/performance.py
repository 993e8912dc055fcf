"""How well a model predicted what then came true, with intervals that stay honest.

Rows of one request, and of one day, share their weather: a month of 10,000 rows may say no more
than 30 independent ones. So a metric's variance is taken between clusters, not between rows:
UTC days of event time, or requests while there are fewer than five days.

Every metric is a smooth function of the data, so its error is the sum over rows of an influence:
how far the metric moves when that row weighs a little more. With influences summed by cluster to
u_1 .. u_G,

    value ± t(0.975, G - 1) · sqrt(G / (G - 1) · Σ u_g²)

K.-Y. Liang, S. L. Zeger (1986), Longitudinal data analysis using generalized linear models;
for the area under the ROC curve N. A. Obuchowski (1997), Nonparametric analysis of clustered ROC
curve data, which extends E. R. DeLong et al. (1988).

What cannot be said is NaN: a ROC curve of one class, an interval from one cluster, anything
about a score that is NaN itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from raymlops.ledger import Outcome

Vector = NDArray[np.float64]
Clusters = NDArray[np.int64]
"""The cluster of each row, [rows], as numbers that only need to differ."""

_MIN_DAYS = 5
_NUM_CALIBRATION_BINS = 10
_EPSILON = float(np.finfo(np.float32).eps)  # a certain and wrong prediction costs 16, not infinity
_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric over `num_rows` rows and its 95 % interval."""

    metric: str
    num_rows: int
    value: float
    low: float
    high: float


def measure(outcomes: Sequence[Outcome], *, label_rate: float) -> tuple[Estimate, ...]:
    """Every metric of `outcomes`, whose scores are probabilities.

    `baseline_log_loss` is what always predicting `label_rate` costs. Where the whole interval of
    `log_loss_over_baseline` lies above zero, the model would be better replaced by that constant;
    days that are hard for both cancel in it, so it decides where the two intervals overlap.
    """
    rows = _rows(outcomes)
    p, y, inf = rows.scores, rows.labels, math.inf
    losses, baseline = log_losses(p, y), log_losses(np.full_like(p, label_rate), y)
    return (
        _mean("log_loss", losses, rows.clusters, high=inf),
        _mean("baseline_log_loss", baseline, rows.clusters, high=inf),
        _mean("log_loss_over_baseline", losses - baseline, rows.clusters, low=-inf, high=inf),
        _roc_auc(p, y, rows.clusters),
        _mean("brier", (p - y) ** 2, rows.clusters),
        _calibration_error(p, y, rows.clusters),
        _mean("label_rate", y, rows.clusters),
    )


def log_losses(scores: NDArray[Any], labels: NDArray[Any]) -> Vector:
    """The log loss of each row in nats; `scores` are probabilities, `labels` 0/1, both [rows]."""
    p = np.clip(np.asarray(scores, dtype=np.float64), _EPSILON, 1.0 - _EPSILON)
    return np.where(np.asarray(labels) > 0, -np.log(p), -np.log1p(-p))


def paired_difference(
    labels: NDArray[Any],
    champion: NDArray[Any],
    challenger: NDArray[Any],
    clusters: NDArray[np.int64],
) -> Estimate:
    """Mean log loss of the challenger less that of the champion on the same rows; all [rows].

    Below zero where the challenger is better. What makes a row hard for both cancels.
    """
    losses = log_losses(challenger, labels) - log_losses(champion, labels)
    return _mean("log_loss_difference", losses, clusters, low=-math.inf, high=math.inf)


def difference(champion: Sequence[Outcome], challenger: Sequence[Outcome]) -> Estimate:
    """Mean log loss of the challenger's rows less that of the champion's, on different rows.

    Both arms live through the same days: a bad day raises both losses, and cancels here because
    a cluster holds the rows of both arms.
    """
    rows = _rows([*champion, *challenger])
    losses = log_losses(rows.scores, rows.labels)
    num_champion = sum(len(outcome.labels) for outcome in champion)
    arms = losses[:num_champion], losses[num_champion:]
    if not all(arm.size for arm in arms):
        return _undefined("log_loss_difference", losses.size)
    means = [float(arm.mean()) for arm in arms]
    influence = np.concatenate(
        [-(arms[0] - means[0]) / arms[0].size, (arms[1] - means[1]) / arms[1].size]
    )
    value = means[1] - means[0]
    return _estimate("log_loss_difference", value, influence, rows.clusters, -math.inf, math.inf)


@dataclass(frozen=True)
class _Rows:
    scores: Vector
    labels: Vector
    clusters: Clusters


def _rows(outcomes: Sequence[Outcome]) -> _Rows:
    if not outcomes:
        return _Rows(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    sizes = [len(outcome.labels) for outcome in outcomes]
    days = np.array([int(outcome.event_time.timestamp() // _DAY_S) for outcome in outcomes])
    requests = np.arange(len(outcomes))
    clusters = days if len(np.unique(days)) >= _MIN_DAYS else requests
    return _Rows(
        np.concatenate([outcome.scores for outcome in outcomes]).astype(np.float64),
        np.concatenate([outcome.labels for outcome in outcomes]).astype(np.float64),
        np.repeat(clusters, sizes),
    )


def _mean(
    metric: str, values: Vector, clusters: Clusters, low: float = 0.0, high: float = 1.0
) -> Estimate:
    if values.size == 0:
        return _undefined(metric, 0)
    mean = float(values.mean())
    return _estimate(metric, mean, (values - mean) / values.size, clusters, low, high)


def _roc_auc(scores: Vector, labels: Vector, clusters: Clusters) -> Estimate:
    """The share of (positive, negative) pairs in the right order, ties counted half."""
    positive = labels > 0
    above, below = scores[positive], scores[~positive]
    if above.size == 0 or below.size == 0 or np.isnan(scores).any():
        return _undefined("roc_auc", labels.size)
    influence = np.empty_like(scores)
    placed_above, placed_below = _share_below(above, below), 1.0 - _share_below(below, above)
    auc = float(placed_above.mean())
    influence[positive] = (placed_above - auc) / above.size
    influence[~positive] = (placed_below - auc) / below.size
    return _estimate("roc_auc", auc, influence, clusters, 0.0, 1.0)


def _share_below(values: Vector, others: Vector) -> Vector:
    """For each value the share of `others` below it, those equal counted half."""
    others = np.sort(others)
    left = np.searchsorted(others, values, side="left")
    right = np.searchsorted(others, values, side="right")
    return (left + right) / (2.0 * others.size)


def _calibration_error(scores: Vector, labels: Vector, clusters: Clusters) -> Estimate:
    """Mean gap between predicted and observed share, over ten equally wide bins of the score.

    C. Guo et al. (2017), On calibration of modern neural networks, equation 3. Noise in a bin
    never cancels, so small windows read too high.
    """
    if np.isnan(scores).any():
        return _undefined("calibration_error", scores.size)
    bins = np.minimum((scores * _NUM_CALIBRATION_BINS).astype(np.int64), _NUM_CALIBRATION_BINS - 1)
    gaps = labels - scores
    signs = np.sign(np.bincount(bins, weights=gaps, minlength=_NUM_CALIBRATION_BINS))
    return _mean("calibration_error", signs[bins] * gaps, clusters)


def _estimate(
    metric: str, value: float, influence: Vector, clusters: Clusters, low: float, high: float
) -> Estimate:
    """`value` and its interval, cut to what the metric can be, within `low` and `high`."""
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, weights=influence)
    margin = math.nan
    if sums.size > 1:
        error = math.sqrt(sums.size / (sums.size - 1) * float(sums @ sums))
        margin = float(stdtrit(sums.size - 1, 0.975)) * error
    return Estimate(
        metric=metric,
        num_rows=influence.size,
        value=value,
        low=float(np.maximum(value - margin, low)),
        high=float(np.minimum(value + margin, high)),
    )


def _undefined(metric: str, num_rows: int) -> Estimate:
    return Estimate(metric=metric, num_rows=num_rows, value=math.nan, low=math.nan, high=math.nan)
