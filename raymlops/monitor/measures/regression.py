"""Predicted numbers against what they were."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raymlops.data.error_cap import cap_among
from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, mean, undefined
from raymlops.monitor.wild import far_rows


def regression(
    predicted: Vector,
    actual: Vector,
    clusters: Clusters,
    *,
    label_mean: float,
    error_cap: float | None = None,
) -> tuple[Estimate, ...]:
    """Mean absolute error, root mean squared error, R² and bias (predicted less actual); all of
    `predicted` and `actual` [rows].

    `baseline_rmse` is that of always predicting `label_mean`. Where the whole interval of
    `rmse_over_baseline` lies above zero, the model would be better replaced by that constant.

    With the `error_cap` of its training also what decides, the same of errors that are no larger,
    see `raymlops.data.error_cap`, and the shares of labels that are wild and of predictions
    that are absurd, see `far_rows`.
    """
    errors, constant = predicted - actual, label_mean - actual
    return (
        mean("mae", np.abs(errors), clusters, high=math.inf),
        _rmse("rmse", errors, clusters),
        _rmse("baseline_rmse", constant, clusters),
        _over("rmse_over_baseline", errors, constant, clusters),
        _r2(errors, actual, clusters),
        mean("bias", errors, clusters, low=-math.inf, high=math.inf),
        *(
            ()
            if error_cap is None
            else _capped(predicted, actual, clusters, label_mean=label_mean, trained=error_cap)
        ),
    )


def _capped(
    predicted: Vector, actual: Vector, clusters: Clusters, *, label_mean: float, trained: float
) -> tuple[Estimate, ...]:
    """With a cap of their own for the model beside the constant: one that fails as a whole may be
    far off where the constant is not."""
    sizes, constant = np.abs(predicted - actual), np.abs(label_mean - actual)
    cap, both = cap_among(trained, sizes), cap_among(trained, sizes, constant)
    far = far_rows(predicted, actual, cap=cap, usual=label_mean)
    return (
        _rmse("capped_rmse", np.minimum(sizes, cap), clusters),
        _rmse("baseline_capped_rmse", np.minimum(constant, both), clusters),
        _over(
            "capped_rmse_over_baseline",
            np.minimum(sizes, both),
            np.minimum(constant, both),
            clusters,
        ),
        Estimate(metric="error_cap", num_rows=sizes.size, value=cap, low=cap, high=cap),
        mean("wild_labels", far.wild.astype(np.float64), clusters),
        mean("absurd_predictions", far.absurd.astype(np.float64), clusters),
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


def _over(metric: str, errors: Vector, constant: Vector, clusters: Clusters) -> Estimate:
    """By how much the root of the mean square of `errors` exceeds that of those of a constant; a
    row moves the root r of a mean by its distance from that mean by 2 r."""
    squares = errors**2, constant**2
    roots = [math.sqrt(float(each.mean())) if each.size else 0.0 for each in squares]
    if 0.0 in roots:
        return undefined(metric, errors.size)
    moved = [(each - root**2) / (2.0 * root) for each, root in zip(squares, roots, strict=True)]
    influence = (moved[0] - moved[1]) / errors.size
    return estimate(metric, roots[0] - roots[1], influence, clusters, -math.inf, math.inf)
