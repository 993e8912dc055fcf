"""Rows that are farther off than a model's errors go, and whose fault that is."""

from __future__ import annotations

import numpy as np

from raymlops.data import Profile
from raymlops.data.error_cap import ErrorCap
from raymlops.ledger import Outcomes
from raymlops.monitor import FarCounts, far_of_arms, far_of_both, held_to
from raymlops.monitor.wild import far_rows
from tests.monitor.months import outcome

PROFILE = Profile(
    bins=(), reference=(), label_rate=50.0, loss=2.0, error_cap=ErrorCap(size=20.0, rmse=2.0)
)
OLD = Profile(bins=(), reference=(), label_rate=50.0, loss=2.0)


def test_a_far_error_is_owed_to_what_is_unusual() -> None:
    said = np.array([49.0, 52.0, 90.0, 1e9, np.inf, 49.0], dtype=np.float32)
    came = np.array([50.0, 1e9, 49.0, 51.0, 51.0, 75.0])
    found = far_rows(said, came, cap=20.0, usual=50.0)
    assert found.wild.tolist() == [False, True, False, False, False, True]
    # What is just a bad answer is none that is absurd.
    assert found.absurd.tolist() == [False, False, False, True, True, False]


def test_of_the_same_rows_a_label_counts_once() -> None:
    came = np.array([50.0, 1e9, 50.0])
    found = far_of_both(np.array([50.0, 51, 49]), np.array([1e9, 51, 49]), came, PROFILE)
    assert found == FarCounts(20.0, 1, 0, 1)
    assert far_of_both(came, came, came, OLD) == FarCounts()


def test_of_two_arms_absurd_answers_are_counted_by_request() -> None:
    champion = [outcome([50, 50], [51, 1e9]), outcome([50, 50], [49, 49])]
    canary = [outcome([1e9, 1e9], [50, 50], arm="canary"), outcome([50], [1e9], arm="canary")]
    assert far_of_arms(champion, canary, PROFILE) == FarCounts(20.0, 2, 0, 1)
    assert far_of_arms(champion, canary, OLD) == FarCounts()
    none: list[Outcomes] = []
    assert far_of_arms(none, none, PROFILE) == FarCounts(20.0, 0, 0, 0)


def test_both_are_held_to_the_champions_unless_that_is_an_old_one() -> None:
    better = Profile(
        bins=(), reference=(), label_rate=50.0, loss=1.0, error_cap=ErrorCap(size=9.0, rmse=1.0)
    )
    assert held_to(PROFILE, better) is PROFILE
    assert held_to(OLD, better) is better
    assert held_to(OLD, OLD).error_cap is None
