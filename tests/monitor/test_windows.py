from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_window_of_several_units_slides_by_one() -> None:
    policy = WindowPolicy(unit="day", span=7)
    assert due(policy, since=_utc(2013, 4, 8), watermark=_utc(2013, 4, 10)) == (
        Window(_utc(2013, 4, 2), _utc(2013, 4, 9)),
        Window(_utc(2013, 4, 3), _utc(2013, 4, 10)),
    )
    quarter = WindowPolicy(unit="month", span=3)
    (found,) = due(quarter, since=_utc(2013, 2, 1), watermark=_utc(2013, 3, 1))
    assert found == Window(_utc(2012, 12, 1), _utc(2013, 3, 1))


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 200),
    st.sampled_from(["day", "week", "month"]),
    st.integers(1, 8),
)
def test_sliding_windows_end_once_with_every_unit(
    since: datetime, days: int, unit: str, span: int
) -> None:
    watermark = since + timedelta(days=days)
    one = due(WindowPolicy(unit=unit), since=since, watermark=watermark)
    many = due(WindowPolicy(unit=unit, span=span), since=since, watermark=watermark)
    assert [window.end for window in many] == [window.end for window in one]
    for window in many:
        parts = list(windows(unit, window.start, window.end))
        assert len(parts) == span
        assert (parts[0].start, parts[-1].end) == (window.start, window.end)


def test_an_impossible_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="a window is one week at least"):
        WindowPolicy(unit="week", span=0)
    with pytest.raises(ValueError, match="label_delay is -1 day"):
        WindowPolicy(label_delay=timedelta(days=-1))
    with pytest.raises(ValueError, match="not day, week or month"):
        WindowPolicy(unit="year")
