from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raymlops.ledger import Outcomes
from raymlops.monitor import Estimate, log_losses, measure
from raymlops.monitor.performance import measure_numbers, scored_share
from tests.monitor.months import month, outcome


def _by_name(outcomes: list[Outcomes], label_rate: float = 0.3) -> dict[str, Estimate]:
    found = measure(outcomes, label_rate=label_rate, thresholds={"1.0.0": 0.5, "2.0.0": 0.9})
    return {each.metric: each for each in found}


@pytest.fixture(scope="module")
def tumours() -> tuple[np.ndarray, np.ndarray]:
    """Scores of a real model on real rows it was not trained on, rounded so that there are ties."""
    x, y = load_breast_cancer(return_X_y=True)
    x, unseen, y, labels = train_test_split(x[:, :4], y, test_size=0.5, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    return np.round(model.predict_proba(unseen)[:, 1], 2), labels


def test_values_are_those_of_scikit_learn(tumours: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = tumours
    scores = scores.astype(np.float32)
    found = _by_name([outcome(scores, labels)])
    constant = np.full(len(labels), 0.3)
    assert found["log_loss"].value == pytest.approx(metrics.log_loss(labels, scores), rel=1e-6)
    assert found["roc_auc"].value == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert found["brier"].value == pytest.approx(metrics.brier_score_loss(labels, scores), rel=1e-6)
    assert found["baseline_log_loss"].value == pytest.approx(metrics.log_loss(labels, constant))
    assert found["label_rate"].value == pytest.approx(labels.mean())


def test_calibration_error_is_the_mean_gap_over_bins() -> None:
    # [0.1, 0.2): predicted 0.15, none came true. [0.8, 0.9): predicted 0.85, all did.
    found = _by_name([outcome([0.15, 0.15, 0.15, 0.85], [0, 0, 0, 1])])
    assert found["calibration_error"].value == pytest.approx(0.15)


def test_a_certain_and_wrong_prediction_costs_much_but_not_everything() -> None:
    assert log_losses(np.array([0.0, 1.0]), np.array([1, 1])) == pytest.approx([15.94, 0], abs=0.01)


def test_intervals_are_clustered_by_day_from_five_days_on() -> None:
    days = [outcome([0.3] * 4, [1] * 4 if day < 3 else [0] * 4, day=day) for day in range(6)]
    rate = _by_name(days)["label_rate"]
    # Days of 1 and 0: like five rows, not 24. Wilson's with t(5) 2.571 and n = 0.25 / 0.05.
    assert rate.high - rate.value == pytest.approx(0.3772, abs=1e-4)
    loss = _by_name(days)["log_loss"]  # -ln 0.3 and -ln 0.7
    error = (math.log(0.7) - math.log(0.3)) / 2 * math.sqrt(1.2 / 6)
    assert loss.value - loss.low == pytest.approx(2.5706 * error, rel=1e-4)


def test_fewer_days_are_clustered_by_request() -> None:
    requests = [outcome([0.3], [index % 2], day=index / 10) for index in range(20)]
    rate = _by_name(requests)["label_rate"]
    assert rate.high - rate.value == pytest.approx(0.2164, abs=1e-4)  # t(19) 2.093, n = 19


def test_one_class_has_no_roc_curve() -> None:
    found = _by_name([outcome([0.2, 0.4], [0, 0], day=day) for day in range(6)])
    assert math.isnan(found["roc_auc"].value)
    assert found["log_loss"].value == pytest.approx(0.367, abs=1e-3)


def test_one_cluster_has_no_interval() -> None:
    loss = _by_name([outcome([0.2, 0.4], [0, 1])])["log_loss"]
    assert loss.value > 0
    assert math.isnan(loss.low)
    assert math.isnan(loss.high)


def test_nothing_is_undefined() -> None:
    assert all(math.isnan(found.value) for found in measure([], label_rate=0.3, thresholds={}))
    found = _by_name([outcome([math.nan], [1])])
    assert math.isnan(found["log_loss"].value)
    assert found["log_loss"].num_rows == 0


def test_a_score_that_is_no_number_says_nothing_and_hides_no_other() -> None:
    """One of them made the whole window's performance NaN, which calls for no new model."""
    days = [outcome([0.9, 0.2, 0.4], [1, 0, 1], day=day) for day in range(6)]
    odd = [outcome([0.9, math.nan, 0.2, 0.4], [1, 1, 0, 1], day=day) for day in range(6)]
    lost = [outcome([math.nan], [1], day=7)]
    assert _by_name([*odd, *lost]) == _by_name(days)


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc", "brier", "label_rate"])
def test_95_percent_of_intervals_hold_the_truth(
    metric: str, months: tuple[dict[str, float], list[dict[str, Estimate]]]
) -> None:
    truth, measured = months
    held = [found[metric].low <= truth[metric] <= found[metric].high for found in measured]
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.fixture(scope="module")
def months() -> tuple[dict[str, float], list[dict[str, Estimate]]]:
    """The true metrics, from 20,000 days, and those measured in each of 400 months."""
    rng = np.random.default_rng(0)
    truth = {name: found.value for name, found in _by_name(month(rng, 20_000)).items()}
    return truth, [_by_name(month(rng)) for _ in range(400)]


def test_a_few_right_answers_do_not_make_a_model_certain() -> None:
    """A model that is right in 95 % gives 20 right answers in a row every third time; its accuracy
    was said to be 1 then, for certain."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        right = rng.random(20) < 0.95
        answers = [outcome([0.9], [int(each)], day=0.01 * n) for n, each in enumerate(right)]
        found = _by_name(answers)["accuracy"]
        held += found.low <= 0.95 <= found.high
    assert held / 400 >= 0.93
    some, many = ([outcome([0.9], [1], day=0.001 * n) for n in range(num)] for num in (3, 300))
    assert _by_name(some)["accuracy"].low == pytest.approx(1 - 0.7076, abs=1e-4)
    assert _by_name(many)["accuracy"].low == pytest.approx(0.9878, abs=1e-4)
    assert _by_name(many)["label_rate"].high == 1.0


def test_each_version_decides_by_its_own_threshold() -> None:
    first = outcome([0.6, 0.95], [1, 1])
    second = replace(outcome([0.6, 0.95, 0.2], [1, 1, 0]), version="2.0.0")
    assert _by_name([first])["recall"].value == 1.0
    assert _by_name([second])["recall"].value == 0.5
    assert _by_name([first, second])["recall"].value == 0.75
    assert _by_name([])["accuracy"].num_rows == 0


def test_an_infinite_number_is_left_out_and_told_as_none() -> None:
    """Its RMSE was infinite, without an interval."""
    day = outcome([1.0, np.inf, 3.0], [1.5, 2.0, 3.5])
    found = {each.metric: each for each in measure_numbers([day], label_mean=2.0)}
    assert (found["rmse"].value, found["rmse"].num_rows) == (0.5, 2)
    assert scored_share([day]).value == pytest.approx(2 / 3)
