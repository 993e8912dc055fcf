"""Estimators that skl2onnx writes wrongly, or not at all, without help."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)

from raymlops.models import (
    format_named,
)
from raymlops.models.predictors import predictor_of
from tests.models.fitted import fitted


@pytest.mark.parametrize(
    "estimator", [HistGradientBoostingClassifier, HistGradientBoostingRegressor]
)
def test_histogram_gradient_boosting_becomes_onnx_with_missing_values(estimator: Any) -> None:
    # skl2onnx wrote a truth value into every leaf, which protobuf 7 does not take.
    rows = fitted("scaled ridge").rows.copy()
    target = np.arange(len(rows)) % 2
    rows[:, 0] += target
    rows[::7, 0] = np.nan
    model = estimator(max_iter=5, random_state=0).fit(rows, target)
    artifact = format_named("onnx").save(model, rows[:50])
    np.testing.assert_allclose(
        format_named("onnx").load(artifact, recorded=lambda _: False)(rows),
        predictor_of(model)(rows),
        atol=1e-5,
    )


def test_a_detector_of_outliers_becomes_onnx() -> None:
    """It asks for operators that skl2onnx does not know in their newest version."""
    rows = fitted("tree").rows
    forest = IsolationForest(n_estimators=10, random_state=0).fit(rows)
    predict = format_named("onnx").load(
        format_named("onnx").save(forest, rows[:50]), recorded=lambda _: False
    )
    np.testing.assert_allclose(predict(rows), forest.decision_function(rows), atol=1e-4)
