"""Predicted numbers against what they were."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, mean, undefined


def regression(predicted: Vector, actual: Vector, clusters: Clusters) -> tuple[Estimate, ...]:
    """Mean absolute error, root mean squared error, R² and bias (predicted less actual); all of
    `predicted` and `actual` [rows]."""
    errors = predicted - actual
    return (
        mean("mae", np.abs(errors), clusters, high=math.inf),
        _rmse(errors, clusters),
        _r2(errors, actual, clusters),
        mean("bias", errors, clusters, low=-math.inf, high=math.inf),
    )


def _rmse(errors: Vector, clusters: Clusters) -> Estimate:
    found = mean("rmse", errors**2, clusters, high=math.inf)
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
