"""When nobody wants to hear of an episode: a silence somebody asked for, a maintenance window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from raymlops.monitor.alerts.episodes import Episode

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, kw_only=True)
class Silence:
    """From start to end nobody is told that what `model` and `name` fit (* is any) begins."""

    id: str
    model: str
    name: str
    starts_at: datetime
    ends_at: datetime
    who: str
    why: str

    def __post_init__(self) -> None:
        if self.ends_at <= self.starts_at:
            raise ValueError(f"a silence from {self.starts_at} to {self.ends_at} never begins")

    def covers(self, episode: Episode, now: datetime) -> bool:
        return (
            self.starts_at <= now < self.ends_at
            and fnmatchcase(episode.model, self.model)
            and fnmatchcase(episode.name, self.name)
        )


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """A window that comes back each week: from `start` on each of `days`, HH:MM in UTC, to `end`.

    An end that is not after the start is one of the next day.
    """

    days: tuple[Day, ...] = _DAYS
    start: str
    end: str
    model: str = "*"

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if _time(getattr(self, name)) is None:
                raise ValueError(f"{name} is '{getattr(self, name)}', not a time such as 22:30")
        if not self.days:
            raise ValueError("days are none: the window would never come")

    def covers(self, episode: Episode, now: datetime) -> bool:
        if not fnmatchcase(episode.model, self.model):
            return False
        now = now.astimezone(UTC)
        return any(self._began(now, days_ago) for days_ago in (0, 1))

    def _began(self, now: datetime, days_ago: int) -> bool:
        """Whether the window that began so many days ago is still open."""
        day = now.date() - timedelta(days=days_ago)
        start, end = _time(self.start), _time(self.end)
        assert start is not None, "checked at construction"
        assert end is not None, "checked at construction"
        begins = datetime.combine(day, start, UTC)
        ends = datetime.combine(day + timedelta(days=end <= start), end, UTC)
        return _DAYS[day.weekday()] in self.days and begins <= now < ends


def is_quiet(
    episode: Episode,
    now: datetime,
    *,
    silences: Iterable[Silence],
    maintenance: Iterable[Maintenance],
) -> bool:
    silenced = any(silence.covers(episode, now) for silence in silences)
    return silenced or any(window.covers(episode, now) for window in maintenance)


def _time(text: str) -> time | None:
    try:
        return datetime.strptime(text, "%H:%M").time()
    except ValueError:
        return None
