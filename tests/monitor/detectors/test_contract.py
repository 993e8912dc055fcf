"""What every detector promises, whatever it computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raymlops.monitor.detectors import (
    DETECTORS,
    Adwin,
    Cusum,
    Ddm,
    Detector,
    Eddm,
    Kswin,
    PageHinkley,
)

Make = Callable[[], Detector[Any]]

MEMBERS: dict[str, Make] = {
    "cusum": lambda: Cusum(reference_rate=0.1),
    "adwin": Adwin,
    "ddm": Ddm,
    "eddm": Eddm,
    "page_hinkley": lambda: PageHinkley(threshold=20.0),
    "kswin": lambda: Kswin(window_size=60, sample_size=30),
}


def errors(*parts: tuple[int, float], seed: int = 0) -> np.ndarray:
    """0/1 errors; each part is (labels, error rate)."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.random(num) < rate for num, rate in parts]).astype(np.float64)


@pytest.fixture(params=MEMBERS)
def make(request: pytest.FixtureRequest) -> Make:
    return MEMBERS[request.param]


def test_every_member_is_tested() -> None:
    assert MEMBERS.keys() == DETECTORS.keys()


def test_a_broken_model_is_found(make: Make) -> None:
    before = 400
    alarms = make().feed(errors((before, 0.1), (1000, 0.9)))
    assert any(before <= alarm < before + 200 for alarm in alarms)


def test_a_model_without_errors_raises_no_alarm(make: Make) -> None:
    assert make().feed(np.zeros(5000)) == ()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_blocks_of_any_size_give_the_same_alarms_and_the_same_state(make: Make, size: int) -> None:
    stream = errors((500, 0.1), (500, 0.4), (200, 0.05))
    whole, cut = make(), make()
    alarms = [
        start + alarm
        for start in range(0, len(stream), size)
        for alarm in cut.feed(stream[start : start + size])
    ]
    assert tuple(alarms) == whole.feed(stream)
    assert cut.state() == whole.state()


def test_a_restored_detector_goes_on_as_the_one_that_died(make: Make) -> None:
    stream = errors((450, 0.1), (500, 0.5))
    died, lives = make(), make()
    died.feed(stream[:431])
    lives.restore(json.loads(json.dumps(died.state(), allow_nan=False)))
    assert lives.feed(stream[431:]) == died.feed(stream[431:])
    assert lives.state() == died.state()


def test_after_an_alarm_it_starts_anew(make: Make) -> None:
    stream = errors((400, 0.1), (600, 0.9))
    detector = make()
    first = detector.feed(stream)[0]
    again = make()
    again.feed(stream[: first + 1])
    assert again.state() == make().state()


def test_what_is_no_error_is_refused_and_changes_nothing(make: Make) -> None:
    detector = make()
    with pytest.raises(ValueError, match="error nan is not a number"):
        detector.feed([0.0, np.nan])
    with pytest.raises(ValueError, match=r"errors have shape \(1, 2\)"):
        detector.feed([[0.0, 1.0]])
    assert detector.state() == make().state()
    assert detector.feed([]) == ()


def test_a_state_of_another_kind_is_refused(make: Make) -> None:
    state = make().state() | {"kind": "other"}
    with pytest.raises(ValueError, match="this is the state of 'other', not of"):
        make().restore(state)


@pytest.mark.parametrize("member", ["cusum", "ddm", "eddm"])
def test_errors_outside_their_bounds_are_refused(member: str) -> None:
    with pytest.raises(ValueError, match=f"error 1.5 .* {member} understands: it takes 0 to 1"):
        MEMBERS[member]().feed([1.5])


@pytest.mark.parametrize(
    ("make_wrong", "message"),
    [
        (lambda: Cusum(reference_rate=0.0), "reference_rate is 0.0, not between 0 and 1"),
        (lambda: Cusum(reference_rate=0.1, labels_per_false_alarm=1), "one alarm a label"),
        (lambda: Adwin(delta=2.0), "delta is 2.0"),
        (lambda: Adwin(clock=0), "clock is 0"),
        (lambda: Ddm(threshold=-1), "threshold -1"),
        (lambda: Eddm(ratio=1.0), "ratio 1.0"),
        (lambda: PageHinkley(forgetting=0), "forgetting 0"),
        (lambda: Kswin(alpha=0), "alpha is 0"),
        (lambda: Kswin(sample_size=51), "sample_size is 51; .* half of window_size, which is 100"),
    ],
)
def test_impossible_parameters_are_refused(make_wrong: Make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_wrong()
