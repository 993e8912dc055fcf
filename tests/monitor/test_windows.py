from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest

from raymlops.monitor import Window, WindowPolicy, due, window_of, windows


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_a_time_lies_in_its_day_week_and_month() -> None:
    time = _utc(2024, 2, 29, 23, 59)  # a Thursday
    assert window_of(time, "day") == Window(_utc(2024, 2, 29), _utc(2024, 3, 1))
    assert window_of(time, "week") == Window(_utc(2024, 2, 26), _utc(2024, 3, 4))
    assert window_of(time, "month") == Window(_utc(2024, 2, 1), _utc(2024, 3, 1))


def test_december_ends_with_the_year() -> None:
    assert window_of(_utc(2013, 12, 31), "month").end == _utc(2014, 1, 1)


def test_windows_are_cut_in_utc_wherever_the_time_was_taken() -> None:
    tokyo = timezone(timedelta(hours=9))
    new_year = datetime(2014, 1, 1, 8, tzinfo=tokyo)
    assert window_of(new_year, "day") == Window(_utc(2013, 12, 31), _utc(2014, 1, 1))


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        window_of(datetime(2013, 1, 1), "day")


def test_windows_follow_each_other_without_gaps() -> None:
    months = list(windows("month", _utc(2013, 1, 15), _utc(2014, 1, 1)))
    assert [month.start.month for month in months] == list(range(1, 13))
    assert all(left.end == right.start for left, right in itertools.pairwise(months))


def test_a_window_is_due_once_its_labels_have_had_time_to_come() -> None:
    policy = WindowPolicy(unit="month", label_delay=timedelta(days=7))
    since = _utc(2013, 4, 3)
    assert due(policy, since=since, watermark=_utc(2013, 5, 7)) == ()
    assert due(policy, since=since, watermark=_utc(2013, 5, 8)) == (
        Window(_utc(2013, 4, 1), _utc(2013, 5, 1)),
    )


def test_what_was_judged_is_not_due_again() -> None:
    policy = WindowPolicy(unit="week")
    judged_until = _utc(2013, 4, 15)
    assert due(policy, since=judged_until, watermark=_utc(2013, 4, 23)) == (
        Window(_utc(2013, 4, 15), _utc(2013, 4, 22)),
    )


def test_an_impossible_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="labels follow their window"):
        WindowPolicy(label_delay=timedelta(days=-1))
    with pytest.raises(ValueError, match="not day, week or month"):
        WindowPolicy(unit="year")
