from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from raymlops.data.error_cap import FAR_OFF_RATE
from raymlops.ledger import ConceptAlarm, Outcome
from raymlops.monitor import ConceptPolicy
from raymlops.monitor.concept import Baseline, errors_of, watch

START = datetime(2013, 4, 1, tzinfo=UTC)


def outcomes(*parts: tuple[int, float], version: str = "1.0.0", rows: int = 1) -> list[Outcome]:
    """Requests of `rows` rows, all predicted no; each part is (requests, share that says yes)."""
    rng = np.random.default_rng(4)
    rates = np.concatenate([np.full(num, rate) for num, rate in parts])
    return [
        Outcome(
            request_id=f"{version}-{number}",
            version=version,
            arm="champion",
            event_time=START + timedelta(hours=number),
            scores=np.full(rows, 0.2, dtype=np.float32),
            labels=(rng.random(rows) < rate).astype(np.int8),
        )
        for number, rate in enumerate(rates)
    ]


def follow(
    policy: ConceptPolicy, stream: list[Outcome], *, size: int, rate: float | None = 0.1
) -> tuple[dict[str, Any], list[ConceptAlarm]]:
    """All of the stream, `size` outcomes at a time, each time from a state that was on disk."""
    state: dict[str, Any] = {}
    alarms: list[ConceptAlarm] = []
    for start in range(0, len(stream), size):
        reference = Baseline(threshold=0.5, error_rate=rate)
        part = stream[start : start + size]
        state, found = watch(policy, "flights", part, state, lambda _: reference)  # noqa: B023
        state = json.loads(json.dumps(state, allow_nan=False))
        alarms += found
    return state, alarms


def test_a_model_that_errs_more_raises_an_alarm_with_its_evidence() -> None:
    _, alarms = follow(ConceptPolicy(), outcomes((800, 0.1), (400, 0.35)), size=100)
    first = alarms[0]
    assert (first.version, first.arm, first.detector) == ("1.0.0", "champion", "cusum")
    number = int(first.request_id.split("-")[1])
    assert 800 < number < 900
    assert first.event_time == START + timedelta(hours=number)
    assert first.num_labels == number + 1
    assert first.reference_rate == 0.1
    assert first.recent_rate > 0.15


@pytest.mark.parametrize("size", [1, 7, 300])
def test_how_the_log_is_cut_makes_no_difference(size: int) -> None:
    stream = outcomes((200, 0.1), (200, 0.5))
    assert follow(ConceptPolicy(), stream, size=size) == follow(ConceptPolicy(), stream, size=400)


def test_a_rate_that_nobody_recorded_is_learned_first() -> None:
    policy = ConceptPolicy(num_learned=300)
    state, alarms = follow(policy, outcomes((600, 0.3), (300, 0.7)), size=50, rate=None)
    number = int(alarms[0].request_id.split("-")[1])
    assert 600 < number < 650
    assert alarms[0].reference_rate == pytest.approx(0.3, abs=0.08)
    assert alarms[0].num_labels == number + 1 - 300
    (stream,) = state["streams"].values()
    assert stream["learned"] == []


def test_less_to_learn_than_was_learned_begins_the_watch() -> None:
    """A smaller num_learned made the number still to learn negative, and nothing ever alarmed."""
    known = Baseline(threshold=0.5, error_rate=None)
    first, second = outcomes((300, 0.3)), outcomes((300, 0.7))
    state, _ = watch(ConceptPolicy(num_learned=500), "flights", first, {}, lambda _: known)
    fewer = ConceptPolicy(num_learned=100)
    state, alarms = watch(fewer, "flights", second, state, lambda _: known)
    assert alarms[0].reference_rate == pytest.approx(0.3, abs=0.08)
    assert int(alarms[0].request_id.split("-")[1]) < 50


def test_a_number_that_is_off_by_just_what_may_be_is_near() -> None:
    """Labels are kept as float32: of a model that says few numbers, of labels of few, 0.21 were
    far off instead of 0.05."""
    said, came = np.full(3, 40.1), np.array([41.7, 38.5, 41.8])
    tolerance = float(np.abs(said.astype(np.float32) - came)[0])
    known = Baseline(tolerance, FAR_OFF_RATE, is_regression=True)
    for label in (came, np.frombuffer(came.astype("<f4").tobytes(), "<f4")):
        (one,) = outcomes((1, 0.0))
        one = replace(one, scores=said.astype(np.float32), labels=label)
        found = errors_of(one, tolerance, known)
        assert found.tolist() == [0.0, 0.0, 1.0]


def test_numbers_that_are_far_off_more_often_raise_an_alarm() -> None:
    """Only models that tell events or classes were watched."""
    rng, known = np.random.default_rng(0), Baseline(2.0, FAR_OFF_RATE, is_regression=True)
    tolerance_of_a_normal = 1.645  # nine of ten lie within, of deviation 1

    def numbers(num: int, deviation: float) -> list[Outcome]:
        return [
            replace(each, scores=said.astype(np.float32), labels=np.full(5, 70.0))
            for each in outcomes((num, 0.0))
            for said in [70.0 + deviation * rng.normal(size=5)]
        ]

    usual = 2.0 / tolerance_of_a_normal
    state, alarms = watch(ConceptPolicy(), "flights", numbers(800, usual), {}, lambda _: known)
    assert alarms == []
    _, alarms = watch(ConceptPolicy(), "flights", numbers(300, 2 * usual), state, lambda _: known)
    assert alarms[0].reference_rate == 0.1
    assert alarms[0].recent_rate > 0.15
    silent = replace(numbers(1, usual)[0], scores=np.full(5, np.nan, np.float32))
    assert errors_of(silent, 2.0, known).tolist() == [1.0] * 5


def test_versions_are_watched_apart() -> None:
    good, bad = outcomes((500, 0.1)), outcomes((500, 0.6), version="1.0.1")
    mixed = [each for pair in zip(good, bad, strict=True) for each in pair]
    _, alarms = follow(ConceptPolicy(), mixed, size=100)
    assert {alarm.version for alarm in alarms} == {"1.0.1"}


def test_a_bad_hour_of_many_rows_is_one_label() -> None:
    # 200 rows that are all wrong: by row a certain change, by request one bad request.
    stream = [*outcomes((300, 0.1), rows=20), *outcomes((1, 1.0), rows=200, version="1.0.0")]
    assert follow(ConceptPolicy(), stream, size=500)[1] == []
    assert follow(ConceptPolicy(unit="row"), stream, size=500)[1] != []


def test_another_policy_starts_anew() -> None:
    stream = outcomes((400, 0.1))
    state, _ = follow(ConceptPolicy(), stream, size=400)
    reference = Baseline(threshold=0.5, error_rate=0.1)
    adwin = ConceptPolicy(detector="adwin", parameters={"clock": 16})
    state, alarms = watch(adwin, "flights", stream[:10], state, lambda _: reference)
    assert state["policy"] == "adwin(clock=16) a request"
    assert state["streams"]["1.0.0 champion"]["num"] == 10
    assert alarms == []


def test_what_is_remembered_is_bounded() -> None:
    stream = [each for i in range(50) for each in outcomes((1, 0.1), version=f"1.0.{i}")]
    state, _ = follow(ConceptPolicy(), stream, size=5)
    assert len(state["streams"]) == 32
    assert list(state["streams"])[-1] == "1.0.49 champion"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": {"clok": 3}}, "cusum has no parameter 'clok', only labels_per_false_alarm"),
        ({"detector": "ddm"}, "ddm knows right and wrong alone, .* set unit to row"),
        ({"detector": "adwin", "parameters": {"delta": 3}}, "delta is 3, not between 0 and 1"),
        ({"num_learned": 0}, "num_learned is 0"),
    ],
)
def test_impossible_policies_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConceptPolicy(**settings)
