from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from raymlops.data import TableSchema, read_columns, take
from raymlops.errors import TrainingError
from raymlops.models import Preprocessing
from raymlops.monitor import measure
from raymlops.train import calibration_error, judge
from raymlops.train.tabular.split import split_by_time
from tests.monitor.months import outcome


def test_figures_are_those_of_scikit_learn_and_of_the_monitor(
    tumours: pa.Table, tumour_schema: TableSchema
) -> None:
    split = split_by_time(tumours, tumour_schema, 0.3)
    arrays = split.arrays
    model = LogisticRegression().fit(arrays.train[:, :1], arrays.train_labels)
    scores = model.predict_proba(arrays.validation[:, :1])[:, 1].astype(np.float32)
    labels = arrays.validation_labels
    quality = judge(scores, labels)
    assert quality.log_loss == pytest.approx(log_loss(labels, scores), abs=1e-6)
    assert quality.roc_auc == roc_auc_score(labels, scores)
    assert quality.brier == pytest.approx(brier_score_loss(labels, scores), abs=1e-6)

    outcomes = [
        outcome(scores[row : row + 1], labels[row : row + 1].astype(np.int8), day=row / 24)
        for row in range(len(scores))
    ]
    seen = {
        estimate.metric: estimate.value
        for estimate in measure(outcomes, label_rate=0.6, thresholds={"1.0.0": 0.5})
    }
    for name, value in quality.to_dict().items():
        assert seen[name] == pytest.approx(value, abs=1e-6)


def test_perfect_calibration_has_no_error() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    probabilities = np.array([0.25, 0.25, 0.25, 0.25, 1.0, 1.0, 1.0, 1.0])
    assert calibration_error(probabilities, labels) == 0.0
    assert calibration_error(1 - probabilities, labels) == pytest.approx(0.75)


def test_one_class_has_no_roc_curve() -> None:
    assert np.isnan(judge(np.array([0.1, 0.2]), np.array([0, 0])).roc_auc)


def test_the_newest_rows_validate_and_nothing_is_fitted_on_them(
    tumours: pa.Table, tumour_schema: TableSchema
) -> None:
    shuffled = tumours.take(np.random.default_rng(0).permutation(tumours.num_rows))
    split = split_by_time(shuffled, tumour_schema, 0.3)
    columns = read_columns(tumours, tumour_schema.features)
    older = take(columns, slice(0, 398))
    assert split.preprocessing == Preprocessing.fit(tumour_schema.features, older)
    assert len(split.arrays.validation) == 171
    assert split.arrays.validation_labels.tolist() == tumours["target"].to_pylist()[398:]
    assert split.last_event == tumours["seen_at"][-1].as_py()


def test_a_part_with_one_class_is_refused(tumours: pa.Table, tumour_schema: TableSchema) -> None:
    ordered = tumours.sort_by("target").drop(["seen_at"])
    ordered = ordered.append_column("seen_at", tumours["seen_at"])
    with pytest.raises(
        TrainingError,
        match="the validation part has 57 of 569 rows, in all of which 'target' is the same",
    ):
        split_by_time(ordered, tumour_schema, 0.1)
