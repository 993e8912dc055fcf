from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.monitor.alerts import Alert, Episode, Letter, Maintenance, RetryPolicy, Silence
from raymlops.monitor.alerts.outbox import due, failed, revived

MONDAY = datetime(2013, 7, 1, tzinfo=UTC)
EPISODE = Episode(
    fingerprint="f",
    name="drift",
    model="flights",
    severity="warning",
    summary="",
    evidence={},
    started_at=MONDAY,
    seen_at=MONDAY,
)
ALERT = Alert.of(EPISODE)
LETTER = Letter(alert=ALERT, sink="webhook", due_at=MONDAY)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


def silence(**fields: Any) -> Silence:
    given = {"model": "*", "name": "*", "starts_at": MONDAY, "ends_at": at(1, 0)}
    return Silence(id="s", who="me", why="known", **{**given, **fields})


def test_a_silence_covers_what_it_names_for_its_time() -> None:
    assert silence().covers(EPISODE, at(0, 12))
    assert not silence().covers(EPISODE, at(1, 0))
    assert not silence(starts_at=at(0, 13)).covers(EPISODE, at(0, 12))
    assert silence(model="fl*", name="drift").covers(EPISODE, at(0, 12))
    assert not silence(model="trains").covers(EPISODE, at(0, 12))
    assert not silence(name="gate").covers(EPISODE, at(0, 12))
    with pytest.raises(ValueError, match="never begins"):
        silence(ends_at=MONDAY)


def test_maintenance_comes_back_each_week_and_may_pass_midnight() -> None:
    window = Maintenance(days=("mon",), start="22:30", end="06:00")
    inside = [at(0, 22, 30), at(0, 23), at(1, 0), at(1, 5, 59), at(7, 23)]
    outside = [at(0, 22, 29), at(1, 6), at(1, 23), at(0, 5)]
    assert all(window.covers(EPISODE, now) for now in inside)
    assert not any(window.covers(EPISODE, now) for now in outside)
    assert not Maintenance(start="00:00", end="00:00", model="trains").covers(EPISODE, at(0, 1))
    assert Maintenance(start="00:00", end="00:00").covers(EPISODE, at(3, 17))  # the whole day


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"start": "25:00", "end": "06:00"}, "start is '25:00', not a time such as 22:30"),
        ({"start": "22:00", "end": "late"}, "end is 'late', not a time"),
        ({"start": "22:00", "end": "23:00", "days": ()}, "the window would never come"),
    ],
)
def test_an_impossible_window_is_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Maintenance(**wrong)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"first_s": 0.0}, r"first_s is 0\.0, it must be positive"),
        ({"first_s": 9.0, "longest_s": 1.0}, "must not be above the second"),
        ({"factor": 0.5}, "at least 1 each"),
        ({"factor": 1e6}, "the first at most 100"),  # 1e6 to the 64th overflows
        ({"max_attempts": 0}, "at least 1 each"),
    ],
)
def test_impossible_patience_is_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RetryPolicy(**wrong)


def test_waits_grow_to_the_longest_and_then_a_letter_is_dead() -> None:
    policy = RetryPolicy(first_s=2, factor=3, longest_s=20, max_attempts=5)
    letter, now, waits = LETTER, MONDAY, []
    while not letter.is_dead:
        letter = failed(letter, "away", now, policy, permanent=False)
        waits.append((letter.due_at - now).total_seconds())
        now = letter.due_at
    assert waits == [2, 6, 18, 20, 20]
    assert letter.dead_because == "5 attempts failed, the last: away"
    assert due([letter], now, policy) == ()
    assert due([revived(letter, now)], now, policy) == (revived(letter, now),)


def test_a_sink_may_be_away_over_a_night() -> None:
    """After 37 minutes letters were given up, and nobody was told of them when it was back."""
    letter = LETTER
    while not letter.is_dead:
        letter = failed(letter, "away", letter.due_at, RetryPolicy(), permanent=False)
    assert timedelta(hours=23) < letter.due_at - LETTER.due_at < timedelta(hours=25)


@pytest.mark.parametrize(("asked_s", "waited_s"), [(0.5, 2), (300, 300), (1e9, 3600)])
def test_a_sink_is_left_alone_for_as_long_as_it_asks(asked_s: float, waited_s: float) -> None:
    policy = RetryPolicy(first_s=2)
    after = failed(LETTER, "429", MONDAY, policy, permanent=False, retry_after_s=asked_s)
    assert after.due_at == MONDAY + timedelta(seconds=waited_s)


def test_what_is_refused_for_good_is_dead_at_once() -> None:
    letter = failed(LETTER, "404", MONDAY, RetryPolicy(), permanent=True)
    assert letter.dead_because == "refused: 404"


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10_000), st.floats(0.001, 1e4), st.floats(1, 100))
def test_no_wait_is_longer_than_the_longest(attempts: int, first_s: float, factor: float) -> None:
    policy = RetryPolicy(first_s=first_s, factor=factor, longest_s=1e4)
    assert first_s <= policy.wait_s(attempts) <= policy.wait_s(attempts + 1) <= 1e4


def test_the_end_of_an_episode_waits_for_its_beginning_to_be_told() -> None:
    later = MONDAY + timedelta(minutes=1)
    begins = replace(LETTER, due_at=later)
    ends = replace(LETTER, alert=replace(ALERT, status="resolved"))
    other = replace(LETTER, sink="smtp")
    policy = RetryPolicy()
    assert due([begins, ends, other], MONDAY, policy) == (other,)
    assert due([begins, ends], later, policy) == (begins,)
    assert due([ends], MONDAY, policy) == (ends,)


def test_a_clock_that_was_set_back_keeps_no_letter_waiting() -> None:
    """It waited for as long as the clock had been ahead."""
    ahead = MONDAY + timedelta(hours=10)
    letter = failed(LETTER, "away", ahead, RetryPolicy(), permanent=False)
    assert due([letter], ahead, RetryPolicy()) == ()
    assert due([letter], MONDAY, RetryPolicy()) == (letter,)
    patient = RetryPolicy(longest_s=86_400)
    assert due([letter], MONDAY, patient) == ()
