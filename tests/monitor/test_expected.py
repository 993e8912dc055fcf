from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.datasets import load_digits
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from raymlops.data import SCORE, Feature, Profile
from raymlops.data.reliability import Reliability
from raymlops.ledger import Outcomes, Performance
from raymlops.monitor.expected import expected, gap, is_off
from tests.monitor.months import outcome

START = datetime(2013, 1, 1, tzinfo=UTC)
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits() -> tuple[Profile, Rows, Rows]:
    """Is it above four? A profile with reliability, the rows that it is from, and later rows."""
    x, y = load_digits(return_X_y=True)
    x, rest, y, labels = train_test_split(x[:, 20:30], y > 4, test_size=0.7, random_state=0)
    model = LogisticRegression(max_iter=2000).fit(x, y)
    scores = model.predict_proba(rest)[:, 1].astype(np.float32)
    half = len(scores) // 2
    feature = Feature(name="x", kind="number")
    profile = Profile.of(
        (feature,), {"x": x[:, 0]}, model.predict_proba(x)[:, 1], label_rate=0.5, log_loss=0.6
    ).with_reliability(scores[:half], labels[:half], threshold=0.5)
    return profile, (scores[:half], labels[:half]), (scores[half:], labels[half:])


def reliability_of(profile: Profile) -> Reliability:
    assert profile.reliability is not None
    return profile.reliability


def cells(profile: Profile, scores: np.ndarray) -> list[np.ndarray]:
    """Counts of the scores by day, as those of six panes."""
    found = [profile.count({"x": np.zeros(len(each))}, each) for each in np.array_split(scores, 6)]
    return [each[profile.cells[SCORE]] for each in found]


def outcomes(scores: np.ndarray, labels: np.ndarray) -> list[Outcomes]:
    parts = zip(np.array_split(scores, 30), np.array_split(labels, 30), strict=True)
    return [outcome(some, true.astype(np.int8), day=day) for day, (some, true) in enumerate(parts)]


def test_probabilities_are_those_of_isotonic_regression(
    digits: tuple[Profile, Rows, Rows],
) -> None:
    profile, (scores, labels), _ = digits
    reliability = reliability_of(profile)
    numbers = reliability.cells_of(scores)
    known = np.unique(numbers)
    wanted = IsotonicRegression().fit(numbers, labels).predict(known)
    assert reliability.probabilities[known] == pytest.approx(wanted, abs=0.01)
    assert (np.diff(reliability.probabilities) >= 0).all()
    assert 0 < reliability.probabilities.min() < reliability.probabilities.max() < 1
    assert reliability.error_rate == pytest.approx(((scores >= 0.5) != labels).mean())


def test_without_drift_what_is_expected_comes_true(digits: tuple[Profile, Rows, Rows]) -> None:
    profile, _, (scores, labels) = digits
    reliability = reliability_of(profile)
    found = {
        each.metric: each for each in expected(reliability, cells(profile, scores), threshold=0.5)
    }
    real = {
        "expected_log_loss": metrics.log_loss(labels, scores),
        "expected_error_rate": ((scores >= 0.5) != labels).mean(),
        "expected_brier": metrics.brier_score_loss(labels, scores),
        "expected_label_rate": labels.mean(),
        "expected_roc_auc": metrics.roc_auc_score(labels, scores),
    }
    for name, value in real.items():
        assert found[name].value == pytest.approx(value, abs=0.05), name
        assert found[name].num_rows == len(scores)
    loss = found["expected_log_loss"]
    assert loss.low < loss.value < loss.high
    assert not is_off([_row(gap(reliability, outcomes(scores, labels)))])


def test_rows_that_got_harder_are_expected_to_cost_more(
    digits: tuple[Profile, Rows, Rows],
) -> None:
    profile, _, (scores, labels) = digits
    hard = np.abs(scores - 0.5) < np.median(np.abs(scores - 0.5))
    reliability = reliability_of(profile)
    harder = expected(reliability, cells(profile, scores[hard]), threshold=0.5)[0]
    all_rows = expected(reliability, cells(profile, scores), threshold=0.5)[0]
    real = metrics.log_loss(labels[hard], scores[hard])
    assert all_rows.value < harder.value
    assert harder.value == pytest.approx(real, abs=0.06)


@pytest.mark.parametrize("num_days", [1, 4])
def test_a_few_days_have_the_interval_of_their_rows(
    digits: tuple[Profile, Rows, Rows], num_days: int
) -> None:
    """One day had none, so windows of a day never called for a model by what was expected."""
    profile, _, (scores, _) = digits
    reliability = reliability_of(profile)
    days = [profile.bins[-1].count(part) for part in np.array_split(scores, num_days)]
    found = {each.metric: each for each in expected(reliability, days, threshold=0.5)}
    hoped = reliability.probabilities[reliability.cells_of(scores)]
    wanted = stats.bootstrap((hoped,), np.mean, n_resamples=5_000, rng=0).confidence_interval
    rate = found["expected_label_rate"]
    assert (rate.low, rate.high) == pytest.approx((wanted.low, wanted.high), abs=0.005)
    loss = found["expected_log_loss"]
    assert 0 < loss.low < loss.value < loss.high


def test_labels_that_turned_round_are_flagged(digits: tuple[Profile, Rows, Rows]) -> None:
    profile, _, (scores, labels) = digits
    found = gap(reliability_of(profile), outcomes(scores, ~labels))
    assert found.low > 0.1
    assert is_off([_row(found)])


def test_nothing_is_expected_of_no_rows(digits: tuple[Profile, Rows, Rows]) -> None:
    profile, _, _ = digits
    reliability = reliability_of(profile)
    empty = np.zeros_like(cells(profile, np.array([0.5]))[0])
    assert expected(reliability, [empty], threshold=0.5) == ()
    no_numbers = cells(profile, np.array([np.nan]))[0]
    assert all(math.isnan(each.value) for each in expected(reliability, [no_numbers], threshold=0))
    assert math.isnan(gap(reliability, []).value)
    assert not is_off([_row(gap(reliability, []))])


def test_reliability_survives_its_file_and_refuses_nothing_to_tell(
    digits: tuple[Profile, Rows, Rows],
) -> None:
    profile, _, _ = digits
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile
    old = {name: value for name, value in profile.to_dict().items() if name != "reliability"}
    assert Profile.from_dict(old).reliability is None
    with pytest.raises(ValueError, match="1 scores, 1 of them no numbers, tell nothing"):
        profile.with_reliability(np.array([np.nan]), np.array([1]), threshold=0.5)


def _row(found: object) -> Performance:
    return Performance(
        model="digits",
        version="1.0.0",
        arm="champion",
        window_start=START,
        window_end=START,
        **vars(found),
    )
