"""Values against scikit-learn's, on models of real data; intervals against what they promise."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split

from raymlops.data.error_cap import ErrorCap
from raymlops.monitor.intervals import Estimate, Vector
from raymlops.monitor.measures import classification, log_losses, orders, ranking, regression


def by_name(found: tuple[Estimate, ...]) -> dict[str, Estimate]:
    return {each.metric: each for each in found}


def test_regression_is_that_of_scikit_learn() -> None:
    x, unseen, y, actual = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    predicted = LinearRegression().fit(x, y).predict(unseen)
    found = by_name(regression(predicted, actual, np.arange(len(actual)), label_mean=150.0))
    assert found["mae"].value == pytest.approx(metrics.mean_absolute_error(actual, predicted))
    assert found["rmse"].value == pytest.approx(metrics.root_mean_squared_error(actual, predicted))
    assert found["r2"].value == pytest.approx(metrics.r2_score(actual, predicted))
    assert found["bias"].value == pytest.approx((predicted - actual).mean())
    constant = metrics.root_mean_squared_error(actual, np.full(len(actual), 150.0))
    assert found["baseline_rmse"].value == pytest.approx(constant)
    over = found["rmse"].value - constant
    assert found["rmse_over_baseline"].value == pytest.approx(over)
    assert found["rmse_over_baseline"].high < 0
    assert all(each.low < each.value < each.high for each in found.values())


def test_without_wild_labels_the_capped_rmse_is_that_of_scikit_learn() -> None:
    x, unseen, y, actual = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    predicted = LinearRegression().fit(x, y).predict(unseen)
    rows, cap = np.arange(len(actual)), ErrorCap.of(predicted - actual)
    assert cap is not None
    found = by_name(regression(predicted, actual, rows, label_mean=150.0, error_cap=cap.size))
    assert found["capped_rmse"] == replace(found["rmse"], metric="capped_rmse")
    assert found["capped_rmse_over_baseline"] == replace(
        found["rmse_over_baseline"], metric="capped_rmse_over_baseline"
    )
    assert (found["error_cap"].value, found["wild_labels"].value) == (cap.size, 0.0)
    wild = np.append(actual, 1e9)
    broken = by_name(
        regression(
            np.append(predicted, 150.0),
            wild,
            np.arange(len(wild)),
            label_mean=150.0,
            error_cap=cap.size,
        )
    )
    assert broken["rmse"].value > 1e7
    squares = np.append((predicted - actual) ** 2, broken["error_cap"].value ** 2)
    assert broken["capped_rmse"].value == pytest.approx(math.sqrt(squares.mean()))
    assert broken["capped_rmse"].value < 1.3 * found["rmse"].value  # of 112 rows
    assert broken["rmse_over_baseline"].high > 0  # nothing can be said of it
    assert broken["capped_rmse_over_baseline"].high < 0
    assert broken["wild_labels"].value * len(wild) == pytest.approx(1)
    assert broken["absurd_predictions"].value == 0.0
    failed = by_name(regression(actual * 50, actual, rows, label_mean=150.0, error_cap=cap.size))
    assert failed["capped_rmse"].value == pytest.approx(failed["rmse"].value)
    assert failed["capped_rmse_over_baseline"].low > 0


@pytest.mark.parametrize("num_days", [7, 300])
def test_the_interval_of_heavy_tails_holds_the_truth_where_they_are_capped(num_days: int) -> None:
    """That of the RMSE holds it in 0.83 of windows."""
    rng, held = np.random.default_rng(0), []
    cap = ErrorCap.of(rng.standard_t(3, 2000))
    assert cap is not None
    truth = math.sqrt(np.mean(np.minimum(np.abs(rng.standard_t(3, 1_000_000)), cap.size) ** 2))
    for _ in range(400):
        errors = rng.standard_t(3, 490)
        days = np.arange(490) % num_days
        found = by_name(
            regression(errors, np.zeros(490), days, label_mean=1.0, error_cap=cap.size)
        )["capped_rmse"]
        held.append(found.low <= truth <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_decisions_are_those_of_scikit_learn() -> None:
    x, y = load_digits(return_X_y=True)
    x, unseen, y, labels = train_test_split(x[:, :20], y == 8, test_size=0.5, random_state=0)
    scores = LogisticRegression(max_iter=2000).fit(x, y).predict_proba(unseen)[:, 1]
    found = by_name(
        classification(
            scores, labels.astype(float), np.arange(len(labels)), label_rate=0.1, threshold=0.3
        )
    )
    said = scores >= 0.3
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(labels, said))
    assert found["precision"].value == pytest.approx(metrics.precision_score(labels, said))
    assert found["recall"].value == pytest.approx(metrics.recall_score(labels, said))
    assert found["f1"].value == pytest.approx(metrics.f1_score(labels, said))


def test_ranking_is_that_of_scikit_learn() -> None:
    # Each digit is a query for images of it; a logistic regression orders a part of them.
    x, y = load_digits(return_X_y=True)
    x, unseen, y, labels = train_test_split(x[:, ::3], y, test_size=0.4, random_state=0)
    scores = LogisticRegression(max_iter=2000).fit(x, y).predict_proba(unseen)
    queries = np.repeat(np.arange(10), len(labels))
    relevance = (labels[None, :] == np.arange(10)[:, None]).astype(float)
    flat = scores.T.ravel(), relevance.ravel(), queries, queries
    found = by_name(ranking(*flat, k=20))
    assert found["ndcg_at_20"].value == pytest.approx(metrics.ndcg_score(relevance, scores.T, k=20))
    whole = by_name(ranking(*flat, k=len(labels)))
    wanted = metrics.average_precision_score(relevance.T, scores, average="macro")
    assert whole[f"map_at_{len(labels)}"].value == pytest.approx(wanted)
    assert whole[f"recall_at_{len(labels)}"].value == 1.0
    recall = [
        relevance[query][np.argsort(-scores[:, query])[:20]].sum() / relevance[query].sum()
        for query in range(10)
    ]
    assert found["recall_at_20"].value == pytest.approx(np.mean(recall))
    shuffled = np.random.default_rng(0).permutation(len(queries))
    assert by_name(ranking(*(each[shuffled] for each in flat), k=20)) == {
        name: pytest.approx(each) if isinstance(each, float) else each
        for name, each in found.items()
    }


def over_orders(scores: Vector, relevance: Vector, k: int) -> Vector:
    """NDCG, average precision and recall, mean over all orders that the scores allow."""
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if (np.diff(scores[list(order)]) <= 0).all()
    ]
    discounts = np.where(np.arange(len(scores)) < k, 1 / np.log2(np.arange(len(scores)) + 2), 0.0)
    ideal = np.sort(relevance)[::-1] @ discounts
    found = []
    for order in orders:
        gains = relevance[list(order)]
        hits = gains > 0
        precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found.append(
            (
                gains @ discounts / ideal,
                precisions[:k][hits[:k]].sum() / min(k, hits.sum()),
                hits[:k].sum() / hits.sum(),
            )
        )
    return np.mean(found, axis=0)


def test_items_of_equal_score_count_as_in_any_order() -> None:
    # A model that said the same of all had the order in which items happened to be asked about.
    rng = np.random.default_rng(0)
    for _ in range(60):
        num, k = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        scores = rng.integers(0, 4, num).astype(float)
        relevance = rng.integers(0, 3, num).astype(float)
        relevance[0] = 1.0
        found = orders(scores, relevance, np.zeros(num, int), k=k)
        wanted = over_orders(scores, relevance, k)
        assert [*found.ndcg, *found.precision, *found.recall] == pytest.approx(wanted)
        if num > 1:
            assert found.ndcg[0] == pytest.approx(metrics.ndcg_score([relevance], [scores], k=k))


def test_what_orders_nothing_is_as_good_as_chance() -> None:
    rng, queries = np.random.default_rng(0), np.repeat(np.arange(50), 20)
    relevance = rng.integers(0, 2, 1000).astype(float)
    found = by_name(ranking(np.full(1000, 0.3), relevance, queries, queries))
    assert found["ndcg_loss"].value == pytest.approx(found["baseline_ndcg_loss"].value)
    assert found["ndcg_loss_over_baseline"].value == pytest.approx(0.0, abs=1e-12)
    assert found["recall_at_10"].value == pytest.approx(0.5)
    backwards = by_name(ranking(-relevance, relevance, queries, queries))
    assert backwards["ndcg_loss_over_baseline"].low > 0
    shuffles = [
        by_name(ranking(rng.random(1000), relevance, queries, queries))["ndcg_loss"].value
        for _ in range(30)
    ]
    assert np.mean(shuffles) == pytest.approx(found["baseline_ndcg_loss"].value, abs=0.01)


def test_a_query_without_hits_says_nothing() -> None:
    queries = np.array([1, 1, 2, 2])
    found = ranking(np.array([0.9, 0.1, 0.5, 0.4]), np.array([0, 1, 0, 0.0]), queries, queries, k=1)
    assert {each.num_rows for each in found} == {1}
    assert [each.value for each in found[3:]] == [0.0] * 3
    nothing = np.empty(0)
    empty = ranking(nothing, nothing, np.empty(0, int), np.empty(0, int))
    assert all(math.isnan(each.value) for each in empty)
    with pytest.raises(ValueError, match="k is 0"):
        ranking(nothing, nothing, queries, queries, k=0)


def test_what_cannot_be_said_is_nan() -> None:
    none, clusters = np.zeros(3), np.arange(3)
    assert math.isnan(by_name(regression(none, none, clusters, label_mean=0.0))["r2"].value)
    assert by_name(regression(none, none, clusters, label_mean=0.0))["rmse"].value == 0.0
    assert all(
        math.isnan(each.value)
        for each in regression(none[:0], none[:0], clusters[:0], label_mean=0.0)
    )
    decided = by_name(classification(none, none, clusters, label_rate=0.1, threshold=0.5))
    assert math.isnan(decided["precision"].value)
    assert decided["accuracy"].value == 1.0


@pytest.mark.parametrize("metric", ["rmse", "rmse_over_baseline", "r2", "f1", "precision"])
def test_95_percent_of_intervals_hold_the_truth(metric: str) -> None:
    # Thirty days a month, each with weather of its own.
    rng = np.random.default_rng(3)

    def month(num_days: int) -> dict[str, Estimate]:
        days = np.repeat(np.arange(num_days), 30)
        weather = rng.normal(size=num_days)[days]
        signal = rng.normal(size=days.size)
        if metric in ("rmse", "rmse_over_baseline", "r2"):
            actual = signal + 0.5 * weather + 0.5 * rng.normal(size=days.size)
            return by_name(regression(signal, actual, days, label_mean=0.2))
        labels = (rng.random(days.size) < expit(signal - 1 + 0.7 * weather)).astype(float)
        return by_name(
            classification(expit(signal - 1), labels, days, label_rate=0.3, threshold=0.4)
        )

    truth = month(20_000)[metric].value
    held = [found[metric].low <= truth <= found[metric].high for found in map(month, [30] * 300)]
    assert 0.915 <= np.mean(held) <= 0.98


@pytest.mark.parametrize(
    ("metric", "promise"),
    [("recall", 0.94), ("precision", 0.94), ("f1", 0.94), ("accuracy", 0.93), ("label_rate", 0.93),
     ("roc_auc", 0.94)],
)  # fmt: skip
def test_intervals_of_a_small_slice_with_few_positives_hold_the_truth(
    metric: str, promise: float
) -> None:
    """Of 100 rows with five positive ones they took the other 95 for what recall and AUC are known
    from, and held the truth of either in three windows of four."""
    rng = np.random.default_rng(5)

    def window(num_rows: int) -> dict[str, Estimate]:
        labels = (rng.random(num_rows) < 0.05).astype(float)
        scores = expit(rng.normal(size=num_rows) + 1.5 * labels - 2)
        rows = np.arange(num_rows)
        return by_name(classification(scores, labels, rows, label_rate=0.05, threshold=0.5))

    truth = window(400_000)[metric].value
    found = [window(100)[metric] for _ in range(600)]
    known = [each for each in found if not math.isnan(each.low)]
    assert np.mean([each.low <= truth <= each.high for each in known]) >= promise


@pytest.mark.parametrize(
    ("auc", "few", "promise"), [(0.75, 3, 0.95), (0.97, 5, 0.95), (0.97, 20, 0.95)]
)
def test_an_area_that_few_positives_show_is_not_overrated(
    auc: float, few: int, promise: float
) -> None:
    """Five positive rows that all rank high said 0.97 +- 0.07, and held the truth in 0.84."""
    rng = np.random.default_rng(7)
    labels, rows = np.repeat([1.0, 0.0], [few, 200]), np.arange(few + 200)
    found = []
    for _ in range(300):
        scores = expit(rng.normal(size=rows.size) + labels * norm.ppf(auc) * math.sqrt(2) - 2)
        measured = classification(scores, labels, rows, label_rate=0.1, threshold=0.5)
        found.append(by_name(measured)["roc_auc"])
    assert np.mean([each.low <= auc <= each.high for each in found]) >= promise


@pytest.mark.parametrize(("num_rows", "promise"), [(100, 0.88), (300, 0.94), (1000, 0.94)])
def test_intervals_of_errors_few_of_which_are_large_hold_the_truth(
    num_rows: int, promise: float
) -> None:
    """They held it in 0.78, 0.87 and 0.93, nearly always too low where they did not."""
    rng = np.random.default_rng(1)
    truth = math.sqrt(0.95 + 0.05 * 8.0**2)  # one error in twenty is eight times as wide
    rows, none = np.arange(num_rows), np.zeros(num_rows)

    def window() -> Estimate:
        wide = np.where(rng.random(num_rows) < 0.05, 8.0, 1.0)
        return by_name(regression(wide * rng.normal(size=num_rows), none, rows, label_mean=0.0))[
            "rmse"
        ]

    found = [window() for _ in range(1000)]
    assert np.mean([each.low <= truth <= each.high for each in found]) >= promise


def test_the_log_loss_of_a_rare_event_is_not_taken_for_small() -> None:
    """Of 300 rows few of which are positive its interval held the truth in 0.90 of windows."""
    rng = np.random.default_rng(2)

    def rows(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        scores = expit(rng.normal(-5, 2, num_rows))
        return scores, (rng.random(num_rows) < scores).astype(float)

    truth = float(log_losses(*rows(2_000_000)).mean())
    found = [
        by_name(classification(*rows(300), np.arange(300), label_rate=0.03, threshold=0.5))
        for _ in range(400)
    ]
    held = [each["log_loss"].low <= truth <= each["log_loss"].high for each in found]
    assert np.mean(held) >= 0.94


def test_two_positive_rows_tell_little_of_recall_and_auc() -> None:
    """A recall of two out of two had the interval of a hundred rows: from 0.96 on."""
    labels = np.repeat([1.0, 0.0], [2, 98])
    found = by_name(
        classification(0.8 * labels, labels, np.arange(100), label_rate=0.02, threshold=0.5)
    )
    for metric in ("recall", "precision", "roc_auc"):
        assert found[metric].low == pytest.approx(1 - 0.8419, abs=1e-4)  # of 2 trials
    assert found["accuracy"].low == pytest.approx(0.9638, abs=1e-4)  # of 100


def test_one_positive_row_has_no_interval_of_recall_or_auc() -> None:
    labels = np.repeat([1.0, 0.0], [1, 99])
    scores = np.linspace(0.9, 0.1, 100)
    found = by_name(classification(scores, labels, np.arange(100), label_rate=0.1, threshold=0.5))
    assert found["recall"].value == found["roc_auc"].value == 1.0
    assert math.isnan(found["recall"].low)
    assert math.isnan(found["roc_auc"].low)
    assert found["recall"].num_rows == 100
