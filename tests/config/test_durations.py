"""That what waits, ends, and what is added to a date gives one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import TIMEOUT_MAX

import pytest

from raymlops.config import MOST_DAYS, MOST_S, check_durations


@dataclass
class Given:
    wait_s: float = 1.0
    age_days: float = 1.0
    delay: timedelta = timedelta(days=1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Given(wait_s=MOST_S + 1), "wait_s is 3153600001, .* at most 3153600000"),
        (Given(wait_s=math.nan), "wait_s is nan"),
        (Given(wait_s=math.inf), "wait_s is inf"),
        (Given(wait_s=0), "wait_s is 0, it must be positive"),
        (Given(age_days=36_501), "age_days is 36501, it must be positive, and at most 36500"),
        (Given(delay=timedelta(days=99_999_999)), "at most 36500 days"),
    ],
)  # fmt: skip
def test_a_duration_past_a_century_is_refused_with_the_most_there_may_be(
    given: Given, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        check_durations(given, "wait_s", "age_days", "delay")


def test_zero_is_a_duration_where_it_may_be() -> None:
    check_durations(Given(wait_s=0, delay=timedelta(0)), "wait_s", "delay", may_be_zero=True)
    with pytest.raises(ValueError, match="wait_s is -1, it must be 0 or more"):
        check_durations(Given(wait_s=-1), "wait_s", may_be_zero=True)


def test_a_century_can_be_waited_for_and_subtracted() -> None:
    assert TIMEOUT_MAX > MOST_S
    assert datetime(2100, 1, 1, tzinfo=UTC) - timedelta(days=MOST_DAYS)
