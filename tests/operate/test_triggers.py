from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from raymlops.data import SCORE
from raymlops.ledger import ConceptAlarm, Decision, Drift, Performance
from raymlops.monitor import Window, WindowReport
from raymlops.operate.triggers import (
    RetrainPolicy,
    concept_trigger,
    find_trigger,
    last_considered,
    suppressed_because,
)

START, END = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC)
POLICY = RetrainPolicy(
    max_loss_increase=0.1, min_drifted_share=0.5, cooldown_days=28, budget=2, budget_days=100
)


def estimate(metric: str, value: float, low: float, version: str) -> Performance:
    return Performance(
        model="flights",
        version=version,
        arm="champion",
        window_start=START,
        window_end=END,
        metric=metric,
        num_rows=27_000,
        value=value,
        low=low,
        high=2 * value - low,
    )


def loss(
    value: float, low: float, version: str = "1.0.0", over_baseline: float = -0.1
) -> tuple[Performance, Performance]:
    return (
        estimate("log_loss", value, low, version),
        estimate("log_loss_over_baseline", over_baseline + 0.01, over_baseline, version),
    )


def drift(feature: str, *, drifted: bool, version: str = "1.0.0") -> Drift:
    return Drift(
        model="flights",
        version=version,
        window_start=START,
        window_end=END,
        feature=feature,
        test="ks",
        num_rows=27_000,
        effect=0.4 if drifted else 0.01,
        p_value=0.0,
        drifted=drifted,
    )


def report(*rows: Performance | Drift) -> WindowReport:
    return WindowReport(
        model="flights",
        window=Window(START, END),
        drift=tuple(row for row in rows if isinstance(row, Drift)),
        performance=tuple(row for row in rows if isinstance(row, Performance)),
    )


def decision(day: datetime) -> Decision:
    return Decision(
        id=1,
        model="flights",
        kind="trigger",
        outcome="retrain",
        who="operator",
        why="",
        evidence={},
        at=day,
        event_time=day,
        previous="",
        digest="",
    )


def test_a_loss_above_the_limit_with_confidence_triggers() -> None:
    found = find_trigger(POLICY, report(*loss(0.70, 0.60)), "1.0.0", 0.48)
    assert found is not None
    assert found.cause == "performance"
    assert "0.700 [0.600, 0.800] in 2013-06-01 to 2013-07-01" in found.why
    assert found.evidence["limit"] == pytest.approx(0.528)


def test_a_loss_whose_interval_reaches_the_limit_does_not() -> None:
    assert find_trigger(POLICY, report(*loss(0.70, 0.52)), "1.0.0", 0.48) is None


def test_being_worse_than_a_constant_triggers_whatever_the_limit() -> None:
    found = find_trigger(POLICY, report(*loss(0.50, 0.40, over_baseline=0.001)), "1.0.0", 0.48)
    assert found is not None
    assert "always saying how frequent each label was in training would do better" in found.why


def test_numbers_are_held_to_their_rmse() -> None:
    def rmse(value: float, low: float, over_baseline: float = -3.0) -> WindowReport:
        return report(
            estimate("mae", value / 2, low / 2, "1.0.0"),
            estimate("rmse", value, low, "1.0.0"),
            estimate("rmse_over_baseline", over_baseline + 0.1, over_baseline, "1.0.0"),
        )

    found = find_trigger(POLICY, rmse(13.0, 12.1), "1.0.0", 10.0)
    assert found is not None
    assert found.why == (
        "RMSE of 1.0.0 was 13.000 [12.100, 13.900] in 2013-06-01 to 2013-07-01 (27,000 rows); at "
        "training it was 10.000, the limit is 11.000"
    )
    assert found.evidence["rmse"] == 13.0
    assert find_trigger(POLICY, rmse(13.0, 10.9), "1.0.0", 10.0) is None
    found = find_trigger(POLICY, rmse(1.3e-5, 1.21e-5), "1.0.0", 1e-5)
    assert found is not None
    assert "at training it was 1e-05, the limit is 1.1e-05" in found.why
    found = find_trigger(POLICY, rmse(10.0, 9.0, over_baseline=0.1), "1.0.0", 10.0)
    assert found is not None
    assert "always predicting the mean in training would do better" in found.why


def test_of_numbers_what_is_held_to_the_limit_has_its_wild_errors_capped() -> None:
    rows = [
        estimate("rmse", 4e7, 1.0, "1.0.0"),
        estimate("rmse_over_baseline", 0.1, -1e7, "1.0.0"),
        estimate("capped_rmse", 13.0, 12.1, "1.0.0"),
        estimate("capped_rmse_over_baseline", -3.0, -4.0, "1.0.0"),
        estimate("error_cap", 66.0, 66.0, "1.0.0"),
        estimate("wild_labels", 2 / 27_000, 0.0, "1.0.0"),
    ]
    found = find_trigger(POLICY, report(*rows), "1.0.0", 10.0)
    assert found is not None
    assert found.why.startswith("RMSE of 1.0.0 was 13.000 [12.100, 13.900] in ")
    assert found.why.endswith("; 2 labels are wild, and their errors count as 66.000")
    assert found.evidence["capped_rmse"] == 13.0
    assert found.evidence["error_cap"] == 66.0


def test_numbers_of_older_versions_call_for_nothing() -> None:
    """Nobody kept their RMSE at training, nor held their windows against a constant."""
    old = report(estimate("rmse", 13.0, 12.1, "1.0.0"))
    assert find_trigger(POLICY, old, "1.0.0", math.nan) is None
    new = report(
        estimate("rmse", 13.0, 12.1, "1.0.0"), estimate("rmse_over_baseline", -2, -3, "1.0.0")
    )
    assert find_trigger(POLICY, new, "1.0.0", math.nan) is None


def test_without_labels_the_expected_loss_triggers_and_with_labels_it_does_not() -> None:
    policy = replace(POLICY, on=("expected",))
    hope = estimate("expected_log_loss", 0.70, 0.60, "1.0.0")
    found = find_trigger(policy, report(hope), "1.0.0", 0.48)
    assert found is not None
    assert found.cause == "expected"
    assert "the scores of 1.0.0 let expect a log loss of 0.700 [0.600, 0.800]" in found.why
    assert find_trigger(policy, report(hope, *loss(0.4, 0.3)), "1.0.0", 0.48) is None
    low = estimate("expected_log_loss", 0.55, 0.50, "1.0.0")
    assert find_trigger(policy, report(low), "1.0.0", 0.48) is None
    assert find_trigger(POLICY, report(hope), "1.0.0", 0.48) is None


def test_only_the_champions_own_loss_counts() -> None:
    assert find_trigger(POLICY, report(*loss(0.70, 0.60, "1.0.1")), "1.0.0", 0.48) is None


def test_drift_triggers_by_the_share_of_features_and_ignores_the_score() -> None:
    rows = [drift("temp", drifted=True), drift("hour", drifted=False)]
    found = find_trigger(POLICY, report(*rows), "1.0.0", 0.48)
    assert found is not None
    assert found.cause == "drift"
    assert "1 of 2 features drifted" in found.why
    with_score = [drift(SCORE, drifted=True), drift("hour", drifted=False)]
    assert find_trigger(POLICY, report(*with_score), "1.0.0", 0.48) is None


def test_performance_comes_before_drift_and_either_can_be_off() -> None:
    both = report(*loss(0.7, 0.6), drift("temp", drifted=True))
    causes = []
    for on in (("performance", "drift"), ("drift",), ()):
        found = find_trigger(replace(POLICY, on=on), both, "1.0.0", 0.48)  # type: ignore[arg-type]
        causes.append(found.cause if found else None)
    assert causes == ["performance", "drift", None]


def test_a_trigger_is_suppressed_until_the_cooldown_is_over() -> None:
    # A refused candidate must not retrigger for ever.
    past = [decision(START)]
    early = suppressed_because(POLICY, past, START + timedelta(days=27))
    assert early == "the last trigger was at 2013-06-01, within 28 days"
    assert suppressed_because(POLICY, past, START + timedelta(days=28)) is None


def test_a_trigger_of_a_clock_that_was_set_back_holds_nothing_up() -> None:
    # One that ran ten years ahead for a minute suppressed every training of ten years.
    past = [decision(START + timedelta(days=3650))]
    assert suppressed_because(POLICY, past, START) is None
    # Two machines differ by a little.
    past = [decision(START + timedelta(minutes=5))]
    assert suppressed_because(POLICY, past, START) is not None


def test_the_budget_bounds_trainings() -> None:
    past = [decision(START), decision(START + timedelta(days=40))]
    assert suppressed_because(POLICY, past, START + timedelta(days=80)) == (
        "2 trainings in 100 days is the whole budget"
    )
    assert suppressed_because(POLICY, past, START + timedelta(days=101)) is None


def alarm(number: int) -> ConceptAlarm:
    return ConceptAlarm(
        id=number,
        model="flights",
        version="1.0.0",
        arm="champion",
        detector="cusum",
        request_id=f"r-{number}",
        event_time=START + timedelta(days=number),
        num_labels=1200,
        reference_rate=0.15,
        recent_rate=0.31,
    )


def test_alarms_that_nobody_considered_are_one_trigger() -> None:
    policy = replace(POLICY, on=("concept",))
    found = concept_trigger(policy, [alarm(3), alarm(7)])
    assert found is not None
    assert found.cause == "concept"
    assert found.why == (
        "errors of 1.0.0 rose from 15.0% to 31.0%, says cusum at 2013-06-08 00:00 after 1,200 "
        "labelled requests, the last of 2 alarms"
    )
    assert (found.evidence["alarm"], found.evidence["request"]) == (7, "r-7")
    assert concept_trigger(policy, []) is None
    assert concept_trigger(POLICY, [alarm(3)]) is None


def test_the_last_alarm_considered_is_known_from_the_decisions() -> None:
    past = [
        decision(START),
        replace(decision(START), evidence={"alarm": 7}),
        replace(decision(START), evidence={"alarm": 4}, outcome="suppressed"),
    ]
    assert last_considered(past) == 7
    assert last_considered([]) == 0


def test_a_budget_of_one_in_a_day() -> None:
    policy = replace(POLICY, cooldown_days=0, budget=1, budget_days=1)
    past = [decision(START)]
    assert suppressed_because(policy, past, START + timedelta(hours=23)) == (
        "1 trainings in 1 days is the whole budget"
    )
    assert suppressed_because(policy, past, START + timedelta(days=1)) is None
    with pytest.raises(ValueError, match="budget_days is 0"):
        replace(POLICY, budget_days=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cooldown_days", float("inf")),
        ("cooldown_days", float("nan")),
        ("budget_days", float("inf")),
        ("max_loss_increase", float("nan")),
    ],
)
def test_what_no_date_ends_and_nothing_exceeds_is_refused(name: str, value: float) -> None:
    # `watch` took it, and ended at its first trigger, which may be months later.
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        replace(POLICY, **{name: value})
