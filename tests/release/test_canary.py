from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from raymlops.release.canary import (
    Advance,
    CanaryPolicy,
    CanaryState,
    Evidence,
    Promote,
    RollBack,
    Wait,
    decide,
    table,
)

POLICY = CanaryPolicy(shares=(0.2, 0.5), min_rows=100, min_days=2, max_days=10)
SINCE = datetime(2013, 7, 1, tzinfo=UTC)
STATE = CanaryState(step=0, since=SINCE)
GOOD = Evidence(
    canary_requests=50,
    canary_failed=0,
    champion_requests=200,
    champion_failed=0,
    canary_rows=500,
    champion_rows=2000,
    canary_unscored=0,
    champion_unscored=0,
    loss="log_loss",
    difference=-0.05,
    low=-0.10,
    high=0.01,
)


def days(number: float) -> datetime:
    return SINCE + timedelta(days=number)


def test_enough_good_evidence_advances_then_promotes() -> None:
    act = decide(POLICY, STATE, GOOD, days(2))
    assert isinstance(act, Advance)
    assert act.state == CanaryState(step=1, since=days(2))
    assert isinstance(decide(POLICY, act.state, GOOD, days(4)), Promote)


def test_a_step_of_a_clock_that_was_set_back_begins_anew() -> None:
    # It waited, and was guarded by nothing, until the time came at which it was said to begin.
    act = decide(POLICY, STATE, GOOD, days(-3650))
    assert isinstance(act, Advance)
    assert act.state == CanaryState(step=0, since=days(-3650))
    assert act.why.startswith("the clock was set back, by which this step began at 2013-07-01")
    assert decide(POLICY, STATE, GOOD, days(-0.5)) == Wait()  # two machines differ by a little


def test_it_waits_for_time_and_for_rows() -> None:
    assert decide(POLICY, STATE, GOOD, days(1.9)) == Wait()
    assert decide(POLICY, STATE, replace(GOOD, canary_rows=99), days(5)) == Wait()


def test_a_difference_over_a_handful_of_rows_rolls_nothing_back() -> None:
    # Once seen on flights: a good challenger was rolled back on its first two labelled rows.
    few = replace(GOOD, canary_rows=2, difference=0.65, low=0.06, high=1.24)
    assert decide(POLICY, STATE, few, days(1)) == Wait()


def test_a_canary_that_is_worse_with_confidence_is_rolled_back() -> None:
    worse = replace(GOOD, difference=0.1, low=0.05, high=0.15)
    act = decide(POLICY, STATE, worse, days(2))
    assert isinstance(act, RollBack)
    assert "worse than the champion: log loss +0.1000 [+0.0500, +0.1500]" in act.why


def test_of_numbers_the_limit_is_a_share_of_the_champions_error() -> None:
    worse = replace(GOOD, loss="rmse", difference=0.05, low=0.03, high=0.07)
    act = decide(POLICY, STATE, worse, days(2))
    assert isinstance(act, RollBack)
    assert act.why.startswith(
        "worse than the champion: RMSE +5.0% [+3.0%, +7.0%] over 500 labelled"
    )
    assert isinstance(decide(POLICY, STATE, replace(worse, low=0.01), days(2)), Advance)


def test_a_release_goes_on_by_the_limit_it_began_with_under_its_former_name() -> None:
    kept = POLICY.to_dict()
    kept["max_log_loss_increase"] = kept.pop("max_loss_increase")
    assert CanaryPolicy.from_dict(kept) == POLICY


def test_a_canary_within_the_margin_goes_on() -> None:
    slightly = replace(GOOD, difference=0.03, low=0.015, high=0.045)
    assert isinstance(decide(POLICY, STATE, slightly, days(2)), Advance)


def test_failing_requests_roll_back_at_once() -> None:
    act = decide(POLICY, STATE, replace(GOOD, canary_failed=3, canary_rows=0), days(0.1))
    assert isinstance(act, RollBack)
    assert "3 of 53 requests failed" in act.why


def test_scores_that_are_no_numbers_roll_back_at_once() -> None:
    """A canary that said NaN of every row was never known, so it kept its traffic to the end."""
    act = decide(POLICY, STATE, replace(GOOD, canary_rows=0, canary_unscored=3), days(0.1))
    assert isinstance(act, RollBack)
    assert "3 of 3 labelled rows have a score that is no number" in act.why
    shared = replace(GOOD, canary_unscored=10, champion_unscored=40)
    assert isinstance(decide(POLICY, STATE, shared, days(2)), Advance)
    one = decide(POLICY, STATE, replace(GOOD, canary_unscored=1), days(2))
    assert isinstance(one, Advance)
    assert "; 1 rows whose score is no number are left out" in one.why


def test_absurd_numbers_roll_back_when_the_step_is_judged() -> None:
    """Of three among thousands the loss, whose errors are capped, shows nothing for certain."""
    numbers = replace(GOOD, loss="rmse", error_cap=20.0)
    three = replace(numbers, canary_absurd=3)
    assert decide(POLICY, STATE, three, days(1)) == Wait()
    act = decide(POLICY, STATE, three, days(2))
    assert isinstance(act, RollBack)
    assert act.why.startswith("absurd numbers were answered to 3 requests, by the champion to 0: ")
    for evidence in (
        replace(numbers, canary_absurd=2),
        # What is broken is asked of both, and one canary row in five is asked of it.
        replace(numbers, canary_absurd=3, champion_absurd=12),
        replace(numbers, canary_absurd=5, champion_absurd=5, champion_rows=500),
    ):
        assert isinstance(decide(POLICY, STATE, evidence, days(2)), Advance)
    wild = decide(POLICY, STATE, replace(numbers, wild_labels=2), days(2))
    assert isinstance(wild, Advance)
    assert wild.why.endswith("; 2 labels are wild, and their errors count as 20.000")


def test_failures_that_the_champion_shares_are_not_the_canarys_fault() -> None:
    both = replace(GOOD, canary_failed=5, champion_failed=20)
    assert isinstance(decide(POLICY, STATE, both, days(2)), Advance)


@pytest.mark.parametrize(
    "evidence", [replace(GOOD, canary_rows=10), replace(GOOD, low=math.nan, high=math.nan)]
)
def test_a_release_without_evidence_ends(evidence: Evidence) -> None:
    assert decide(POLICY, STATE, evidence, days(9)) == Wait()
    act = decide(POLICY, STATE, evidence, days(10))
    assert isinstance(act, RollBack)
    assert "labelled rows after 10 days; the step needs 100" in act.why


def test_every_release_deals_the_keys_out_anew() -> None:
    first = table("flights", "1.0.0", "1.0.1", share=0.2, release_id=1)
    second = table("flights", "1.0.0", "1.0.1", share=0.2, release_id=2)
    keys = [f"key-{number}" for number in range(2000)]
    canary = {key for key in keys if first.arm_of(key).name == "canary"}
    again = {key for key in keys if second.arm_of(key).name == "canary"}
    assert 320 < len(canary) < 480
    assert canary != again


def test_the_state_survives_the_ledger() -> None:
    assert CanaryState.from_dict(STATE.to_dict()) == STATE


@pytest.mark.parametrize("shares", [(), (0.5, 0.2), (0.0, 0.5), (0.5, 1.0), (0.2, 0.2)])
def test_shares_that_do_not_rise_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="give rising shares between 0 and 1"):
        CanaryPolicy(shares=shares)


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        # The first look at a release ended `watch`: no date is so far away.
        ("max_days", math.inf, "max_days inf; .* at most 36500"),
        ("min_days", math.nan, "min_days is nan"),
        ("shares", (math.nan,), "give rising shares between 0 and 1"),
        # Nothing is above it, so the guard was none.
        ("max_error_rate_increase", math.nan, "max_error_rate_increase is nan, which nothing"),
        ("max_loss_increase", math.nan, "max_loss_increase is nan, which nothing"),
    ],
)
def test_what_cannot_be_counted_is_refused(setting: str, value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        CanaryPolicy(**{setting: value})  # type: ignore[arg-type]
    assert CanaryPolicy(max_loss_increase=math.inf).max_loss_increase == math.inf
