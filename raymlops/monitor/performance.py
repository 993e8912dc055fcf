"""How well a model predicted what then came true, with intervals that stay honest.

Clusters are UTC days of event time, or requests while there are fewer than five days; see
`intervals` for what that means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.ledger import Outcome
from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, mean, undefined
from raymlops.monitor.measures import classification, log_losses, regression

__all__ = [
    "Estimate",
    "difference",
    "log_losses",
    "measure",
    "measure_numbers",
    "paired_difference",
]

MIN_DAYS = 5
"""Fewer days say too little of how days differ; see `clusters_of` for what is a cluster then."""

_DAY_S = 86_400


def measure(
    outcomes: Sequence[Outcome], *, label_rate: float, thresholds: Mapping[str, float]
) -> tuple[Estimate, ...]:
    """Every metric of `outcomes`, whose scores are probabilities; see `classification`.

    Each version has decided by its own of `thresholds`. Rows whose score is no number are left
    out: one of them would leave nothing to be said of all others. Drift of the score counts them.
    """
    outcomes = scored(outcomes)
    rows = _rows(outcomes)
    num_rows = [len(outcome.labels) for outcome in outcomes]
    threshold = np.repeat([thresholds[outcome.version] for outcome in outcomes], num_rows)
    return classification(
        rows.scores, rows.labels, rows.clusters, label_rate=label_rate, threshold=threshold
    )


def measure_numbers(outcomes: Sequence[Outcome]) -> tuple[Estimate, ...]:
    """Every metric of `outcomes` of a model that says numbers, but for rows of which it said none;
    see `regression`."""
    rows = _rows(scored(outcomes))
    return regression(rows.scores, rows.labels, rows.clusters)


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
    return mean("log_loss_difference", losses, clusters, low=-math.inf, high=math.inf)


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
        return undefined("log_loss_difference", losses.size)
    means = [float(arm.mean()) for arm in arms]
    influence = np.concatenate(
        [-(arms[0] - means[0]) / arms[0].size, (arms[1] - means[1]) / arms[1].size]
    )
    value = means[1] - means[0]
    return estimate("log_loss_difference", value, influence, rows.clusters, -math.inf, math.inf)


@dataclass(frozen=True)
class _Rows:
    scores: Vector
    labels: Vector
    clusters: Clusters


def _rows(outcomes: Sequence[Outcome]) -> _Rows:
    if not outcomes:
        return _Rows(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    return _Rows(
        np.concatenate([outcome.scores for outcome in outcomes]).astype(np.float64),
        np.concatenate([outcome.labels for outcome in outcomes]).astype(np.float64),
        clusters_of(outcomes),
    )


def scored(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """`outcomes` without the rows whose score is no number; their slices are let go."""
    known = [~np.isnan(outcome.scores) for outcome in outcomes]
    return [
        replace(each, scores=each.scores[rows], labels=each.labels[rows], slices=None)
        for each, rows in zip(outcomes, known, strict=True)
        if rows.any()
    ]


def clusters_of(outcomes: Sequence[Outcome]) -> Clusters:
    """The day of each row, [rows], or its request while there are fewer than five days."""
    days = np.array([int(outcome.event_time.timestamp() // _DAY_S) for outcome in outcomes])
    requests = np.arange(len(outcomes))
    clusters = days if len(np.unique(days)) >= MIN_DAYS else requests
    return np.repeat(clusters, [len(outcome.labels) for outcome in outcomes])
