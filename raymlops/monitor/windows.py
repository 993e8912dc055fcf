"""Calendar windows of event time, in UTC: what is judged as one piece, and when it is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from raymlops.config import MOST_DAYS, check_durations

Unit = Literal["day", "week", "month"]

MOST_SKEW = timedelta(minutes=5)
"""Between clocks that are right."""

_DAYS: dict[Unit, int] = {"day": 1, "week": 7, "month": 31}
"""At most."""


@dataclass(frozen=True, order=True)
class Window:
    """The event times in [start, end)."""

    start: datetime
    end: datetime

    @property
    def days(self) -> tuple[Window, ...]:
        return tuple(windows("day", self.start, self.end))

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


@dataclass(frozen=True, kw_only=True)
class WindowPolicy:
    """Windows of `span` calendar units that end with each unit, judged `label_delay` after that.

    One unit is a tumbling window, several are a sliding one: the last 7 days, looked at every day.
    The delay is how long labels take to arrive: a window judged earlier would miss the slow ones.
    """

    unit: Unit = "month"
    span: int = 1
    label_delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.unit not in _DAYS:
            raise ValueError(f"unit is '{self.unit}', not day, week or month")
        most = MOST_DAYS // _DAYS[self.unit]
        if not 1 <= self.span <= most:
            raise ValueError(
                f"span is {self.span}; a window is one {self.unit} at least, and at most {most}"
            )
        check_durations(self, "label_delay", may_be_zero=True)


def window_of(time: datetime, unit: Unit) -> Window:
    """The window `time` lies in; weeks start on Monday."""
    if time.tzinfo is None:
        raise ValueError(f"time {time.isoformat()} has no zone; give it one, e.g. UTC")
    day = time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match unit:
        case "day":
            return Window(day, day + timedelta(days=1))
        case "week":
            start = day - timedelta(days=day.weekday())
            return Window(start, start + timedelta(days=7))
        case "month":
            start = day.replace(day=1)
            return Window(start, (start + timedelta(days=31)).replace(day=1))


def windows(unit: Unit, start: datetime, end: datetime) -> Iterator[Window]:
    """The windows that overlap [start, end), in order and without gaps."""
    while start < end:
        window = window_of(start, unit)
        yield window
        start = window.end


def due(policy: WindowPolicy, *, since: datetime, watermark: datetime) -> tuple[Window, ...]:
    """The windows that end after `since` and are complete when event time reaches `watermark`.

    `since` is the end of the last window judged, or the first event seen.
    """
    ready = watermark - policy.label_delay
    return tuple(
        Window(_back(window.start, policy.unit, policy.span - 1), window.end)
        for window in windows(policy.unit, since, ready)
        if window.end <= ready
    )


def credible_before(now: datetime) -> datetime:
    """The time before which a window ends that may have been judged by `now`: one that ends later
    was by a clock that was ahead, and nothing is known of it."""
    return now + MOST_SKEW


def first_start(policy: WindowPolicy, *, after: datetime) -> datetime:
    """The start of the first window that ends after that time."""
    return _back(window_of(after, policy.unit).start, policy.unit, policy.span - 1)


def _back(start: datetime, unit: Unit, units: int) -> datetime:
    """The start of the unit that lies `units` before the one that starts at `start`."""
    for _ in range(units):
        start = window_of(start - timedelta(days=1), unit).start
    return start
