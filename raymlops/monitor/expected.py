"""How well a model probably does, before anybody knows what came true.

A calibrated score says how likely its row is positive, so it says how much that row costs on
average: with c the probability that was observed for scores like s at training,

    E[log loss] = -c ln s - (1 - c) ln(1 - s)          E[error] = 1 - c where s says yes, else c

and the mean over all rows of a window, labelled or not, is what the metric is expected to be. The
idea is that of confidence-based performance estimation in NannyML. It sees what a change of the
inputs does to the model. It is blind where the same inputs come to mean something else (concept
drift), so it is checked: once labels come, the expected loss of their rows is held against the
real one, and where the two differ for certain, the estimate is not to be believed.

A model of several classes says how sure it is of one of them. Then c is how often that came true
where it was as sure as that, and what such rows lost at training is what they are expected to lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from raymlops.data import Class, Counts
from raymlops.data.reliability import Reliability, Vector
from raymlops.ledger import Outcomes, Performance
from raymlops.monitor.intervals import Estimate, counted_mean, mean, ratio, undefined
from raymlops.monitor.losses import LOG_LOSS, costs_of
from raymlops.monitor.measures import log_losses
from raymlops.monitor.performance import MIN_DAYS, clusters_of, scored

GAP = "estimate_gap_log_loss"
"""The metric that tells by how much the real log loss exceeds the expected one."""

_MIN_GAP = 0.02  # nats: a difference this small changes no decision, however certain it is


def expected(
    reliability: Reliability, days: Sequence[Counts], *, threshold: float
) -> tuple[Estimate, ...]:
    """Expected metrics of a window from the counts of its scores by day, each [cells].

    Intervals take days as clusters, or rows while there are fewer than five days: they tell how
    much the traffic varies, not how far the calibration may be off.
    """
    counts = np.array(days, dtype=np.float64).reshape(len(days), -1)
    if not counts.any():
        return ()
    counts[:, -1] = 0.0  # scores that are no numbers
    c, s = reliability.probabilities, _safe(reliability.scores)
    by_cell: dict[str, NDArray[Any]]
    if reliability.losses is not None:
        by_cell = {"expected_log_loss": reliability.losses, "expected_error_rate": 1.0 - c}
    else:
        says_yes = s >= threshold
        by_cell = {
            "expected_log_loss": -xlogy(c, s) - xlogy(1.0 - c, 1.0 - s),
            "expected_error_rate": np.where(says_yes, 1.0 - c, c),
            "expected_brier": c * (1.0 - s) ** 2 + (1.0 - c) * s**2,
            "expected_label_rate": c,
        }
    found = [_mean(name, cost, counts) for name, cost in by_cell.items()]
    if reliability.losses is None:
        found.append(_roc_auc(counts.sum(axis=0), c))
    return tuple(replace(each, num_rows=int(counts.sum())) for each in found)


def _mean(metric: str, costs: Vector, counts: Vector) -> Estimate:
    """Of what a row costs, by cell [cells], over rows counted by day and cell."""
    by_day = counts.sum(axis=1)
    if np.count_nonzero(by_day) < MIN_DAYS:
        return counted_mean(metric, costs, counts.sum(axis=0), high=math.inf)
    return ratio(metric, counts @ costs, by_day, np.arange(len(counts)), high=math.inf)


def gap(
    reliability: Reliability, outcomes: Sequence[Outcomes], classes: Sequence[Class] = ()
) -> Estimate:
    """Real less expected log loss, over the rows whose labels are known, of a version that says
    these `classes`."""
    outcomes = scored(outcomes)
    if not outcomes:
        return undefined(GAP, 0)
    scores = np.concatenate([outcome.scores for outcome in outcomes]).astype(np.float64)
    if reliability.losses is not None:
        hoped = reliability.losses[reliability.cells_of(scores.max(axis=1))]
    else:
        c = reliability.probabilities[reliability.cells_of(scores)]
        yes, no = np.ones_like(c), np.zeros_like(c)
        hoped = c * log_losses(scores, yes) + (1 - c) * log_losses(scores, no)
    real = costs_of(outcomes, LOG_LOSS, lambda _: classes)
    return mean(GAP, real - hoped, clusters_of(outcomes), low=-math.inf, high=math.inf)


def is_off(rows: Sequence[Performance]) -> bool:
    """Whether labels contradict the expectation, by the gap among metrics of one arm."""
    return any(row.metric == GAP and (row.low > _MIN_GAP or row.high < -_MIN_GAP) for row in rows)


def _roc_auc(counts: Vector, c: Vector) -> Estimate:
    """The area under the curve of expected positives and negatives, cells in rising order."""
    positives, negatives = counts * c, counts * (1.0 - c)
    pairs = positives.sum() * negatives.sum()
    if pairs == 0.0:
        return undefined("expected_roc_auc", 0)
    below = np.cumsum(negatives) - negatives / 2.0
    value = float(positives @ below / pairs)
    return Estimate(metric="expected_roc_auc", num_rows=0, value=value, low=math.nan, high=math.nan)


def _safe(scores: Vector) -> Vector:
    smallest = float(np.finfo(np.float32).eps)
    return np.clip(scores, smallest, 1.0 - smallest)
