"""How far two versions differ in what they are held against each other by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from raymlops.ledger import Outcomes
from raymlops.monitor import Estimate, difference, log_losses, measure, paired_difference
from raymlops.monitor.losses import LOG_LOSS, RMSE, Loss
from tests.monitor.months import month, outcome


def log_loss(outcomes: list[Outcomes]) -> Estimate:
    found = measure(outcomes, label_rate=0.3, thresholds={"1.0.0": 0.5})
    return next(each for each in found if each.metric == "log_loss")


def test_a_paired_difference_sees_what_separate_intervals_cannot() -> None:
    rng = np.random.default_rng(1)
    champion = month(rng, shift=0.8)
    labels = np.concatenate([outcome.labels for outcome in champion])
    worse = np.concatenate([outcome.scores for outcome in champion])
    better = expit(np.log(worse / (1 - worse)) - 0.8)
    days = np.repeat(np.arange(30), [len(outcome.labels) for outcome in champion])
    found = paired_difference(LOG_LOSS, log_losses(worse, labels), log_losses(better, labels), days)
    expected = metrics.log_loss(labels, better) - metrics.log_loss(labels, worse)
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert found.high < 0
    challenger = [outcome(better[days == day], labels[days == day], day=day) for day in range(30)]
    losses = [log_loss(arm) for arm in (champion, challenger)]
    assert losses[1].high > losses[0].low


def test_two_arms_share_their_days_so_bad_days_cancel() -> None:
    rng = np.random.default_rng(2)
    held = []
    for _ in range(300):
        champion, challenger = [], []
        for day, whole in enumerate(month(rng)):
            half = len(whole.labels) // 2
            champion.append(outcome(whole.scores[:half], whole.labels[:half], day=day))
            challenger.append(outcome(whole.scores[half:], whole.labels[half:], day=day, arm="b"))
        found = difference(champion, challenger)
        held.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_an_arm_without_labels_has_no_difference() -> None:
    found = difference([outcome([0.2], [0])], [])
    assert math.isnan(found.value)
    assert math.isnan(found.low)


def test_one_score_that_is_no_number_does_not_hide_the_difference_of_two_arms() -> None:
    """One NaN among thousands of rows left no interval, and a canary waited until its last day."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (40, 50))

    def arm(name: str, shift: float) -> list[Outcomes]:
        scores = np.clip(0.2 + 0.6 * labels + shift, 0.05, 0.95)
        rows = zip(scores, labels, strict=True)
        return [outcome(*each, day=day / 4, arm=name) for day, each in enumerate(rows)]

    champion, canary = arm("champion", 0.0), arm("canary", 0.1)
    whole = difference(champion, canary)
    broken = replace(canary[0], scores=np.append(np.float32("nan"), canary[0].scores[1:]))
    found = difference(champion, [broken, *canary[1:]])
    assert found.num_rows == whole.num_rows - 1
    assert found.value == pytest.approx(whole.value, abs=1e-3)
    assert math.isfinite(found.low)
    assert math.isfinite(difference([broken, *champion], canary).low)


def test_of_numbers_it_is_a_share_of_the_champions_error() -> None:
    x, unseen, y, actual = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    poor, good = (LinearRegression().fit(x[:, :num], y).predict(unseen[:, :num]) for num in (1, 10))
    costs = RMSE.rows(poor, actual), RMSE.rows(good, actual)
    found = paired_difference(RMSE, *costs, np.arange(len(actual)))
    errors = [metrics.root_mean_squared_error(actual, said) for said in (poor, good)]
    assert found.value == pytest.approx(errors[1] / errors[0] - 1)
    assert found.low < found.value < found.high < 0
    assert RMSE.told(found.value) == f"{100 * found.value:+.1f}%"
    kelvins = paired_difference(RMSE, *(1e6 * each for each in costs), np.arange(len(actual)))
    assert kelvins.value == pytest.approx(found.value)  # whatever the unit of the label
    assert kelvins.low == pytest.approx(found.low)


@pytest.mark.parametrize("is_paired", [True, False])
def test_95_percent_of_intervals_hold_the_truth_of_numbers(is_paired: bool) -> None:
    rng, held = np.random.default_rng(5), []
    truth = math.sqrt((0.8 + 0.25 + 0.25) / (1.0 + 0.25 + 0.25)) - 1
    days = np.repeat(np.arange(30), 40)
    for _ in range(400):
        actual = rng.normal(0, 0.5, 30)[days]  # the weather, which nobody sees
        signal = rng.normal(size=(2, days.size))
        shared = rng.normal(0, 0.5, days.size)  # what both have wrong
        champion = signal[0] + shared
        challenger = math.sqrt(0.8) * signal[1] + shared
        if is_paired:
            costs = RMSE.rows(champion, actual), RMSE.rows(challenger, actual)
            found = paired_difference(RMSE, *costs, days)
        else:
            arms = [
                [
                    outcome(said[rows], actual[rows], day=day, arm=arm)
                    for day in range(30)
                    for rows in [np.flatnonzero(days == day)[half::2]]
                ]
                for half, (arm, said) in enumerate(
                    {"champion": champion, "canary": challenger}.items()
                )
            ]
            found = difference(*arms, RMSE)
        held.append(found.low <= truth <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98


@pytest.mark.parametrize("wild_in", ["champion", "canary"])
def test_a_wild_label_hides_no_difference_of_two_arms_and_makes_none(wild_in: str) -> None:
    """One made the arm that it fell into worse than anything, for certain."""
    rng = np.random.default_rng(0)

    def arms(scale: float) -> list[list[Outcomes]]:
        found = []
        for arm, spread in (("champion", 1.0), ("canary", scale)):
            actual = rng.normal(50, 10, (100, 10))
            said = actual + rng.normal(0, spread, actual.shape)
            if arm == wild_in:
                actual[0, 0] = 1e9
            found.append([outcome(*rows, arm=arm) for rows in zip(said, actual, strict=True)])
        return found

    same, worse = arms(1.0), arms(1.3)
    assert (difference(*same, RMSE).low > 1) == (wild_in == "canary")
    assert difference(*worse, RMSE).low < -0.9 or wild_in == "canary"
    found = difference(*same, RMSE, error_cap=6.6)
    assert found.low < 0.0 < found.high
    assert difference(*worse, RMSE, error_cap=6.6).low > 0.1


@pytest.mark.parametrize("loss", [LOG_LOSS, RMSE])
def test_of_the_same_costs_there_is_no_difference(loss: Loss) -> None:
    costs = np.array([0.1, 0.4, 0.2])
    found = paired_difference(loss, costs, costs, np.arange(3))
    assert (found.metric, found.value) == (f"{loss.metric}_difference", 0.0)


def test_of_what_is_never_off_there_is_no_share() -> None:
    found = paired_difference(RMSE, np.zeros(3), np.ones(3), np.arange(3))
    assert math.isnan(found.value)
    assert math.isnan(found.high)


def test_no_share_of_an_error_is_below_all_of_it() -> None:
    """A canary was promoted by "RMSE -65.6% [-105.4%, -25.7%]": two days of five were bad."""
    days = np.repeat(np.arange(5), 30)
    costs = RMSE.rows(np.where(days < 2, 3.0, 0.5), 0.0), RMSE.rows(np.full(150, 0.5), 0.0)
    found = paired_difference(RMSE, *costs, days)
    assert -1.0 < found.low < found.value < found.high
    other = paired_difference(RMSE, *costs[::-1], days)
    assert 1 + other.value == pytest.approx(1 / (1 + found.value))
    assert 1 + other.low == pytest.approx(1 / (1 + found.high))


def test_heavy_tails_of_two_arms_are_missed_on_both_sides() -> None:
    """Of arms that are alike 0.069 of intervals lay below the truth and 0.013 above it."""
    rng, missed = np.random.default_rng(7), []
    days = np.repeat(np.arange(7), 100)
    for _ in range(800):
        errors = rng.standard_t(3, days.size) + rng.normal(0, 0.5, 7)[days]
        arms = [
            [
                outcome(errors[rows], np.zeros(rows.size), day=day, arm=name)
                for day in range(7)
                for rows in [np.flatnonzero(days == day)[part]]
            ]
            for name, part in (("champion", slice(30, None)), ("canary", slice(0, 30)))
        ]
        found = difference(*arms, RMSE)
        missed.append((found.high < 0, found.low > 0))
    below, above = np.mean(missed, axis=0)
    assert below == pytest.approx(0.051, abs=0.01)
    assert above == pytest.approx(0.029, abs=0.01)
