"""Predicted numbers against what they were."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, mean, undefined


def regression(
    predicted: Vector, actual: Vector, clusters: Clusters, *, label_mean: float
) -> tuple[Estimate, ...]:
    """Mean absolute error, root mean squared error, R² and bias (predicted less actual); all of
    `predicted` and `actual` [rows].

    `baseline_rmse` is that of always predicting `label_mean`. Where the whole interval of
    `rmse_over_baseline` lies above zero, the model would be better replaced by that constant.
    """
    errors, constant = predicted - actual, label_mean - actual
    return (
        mean("mae", np.abs(errors), clusters, high=math.inf),
        _rmse("rmse", errors, clusters),
        _rmse("baseline_rmse", constant, clusters),
        _over(errors, constant, clusters),
        _r2(errors, actual, clusters),
        mean("bias", errors, clusters, low=-math.inf, high=math.inf),
    )


def _rmse(metric: str, errors: Vector, clusters: Clusters) -> Estimate:
    found = mean(metric, errors**2, clusters, high=math.inf)
    return replace(
        found, value=math.sqrt(found.value), low=math.sqrt(found.low), high=math.sqrt(found.high)
    )


def _r2(errors: Vector, actual: Vector, clusters: Clusters) -> Estimate:
    """1 less the share of the variance that is left; undefined where nothing varies."""
    spread = (actual - actual.mean()) ** 2 if actual.size else actual
    total = float(spread.sum())
    if total == 0.0:
        return undefined("r2", errors.size)
    left = float((errors**2).sum()) / total
    influence = -(errors**2 - left * spread) / total
    return estimate("r2", 1.0 - left, influence, clusters, -math.inf, 1.0)


def _over(errors: Vector, constant: Vector, clusters: Clusters) -> Estimate:
    """By how much the root of the mean square of `errors` exceeds that of those of a constant; a
    row moves the root r of a mean by its distance from that mean by 2 r."""
    metric = "rmse_over_baseline"
    squares = errors**2, constant**2
    roots = [math.sqrt(float(each.mean())) if each.size else 0.0 for each in squares]
    if 0.0 in roots:
        return undefined(metric, errors.size)
    moved = [(each - root**2) / (2.0 * root) for each, root in zip(squares, roots, strict=True)]
    influence = (moved[0] - moved[1]) / errors.size
    return estimate(metric, roots[0] - roots[1], influence, clusters, -math.inf, math.inf)
