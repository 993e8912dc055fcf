"""A stretch of time a report is about; an end that is open reaches as far as there is anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from raymlops.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Period:
    """From `since` to before `until`, in the data's own time where there is one."""

    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ConfigError(f"the period from {self.since} to {self.until} is empty")

    def holds(self, time: datetime) -> bool:
        return (self.since is None or self.since <= time) and (
            self.until is None or time < self.until
        )

    def meets(self, start: datetime, end: datetime) -> bool:
        """Whether some of [start, end) lies in it."""
        return (self.until is None or start < self.until) and (
            self.since is None or self.since < end
        )

    def holds_day(self, day: date) -> bool:
        """Whether some of a UTC day lies in it."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return self.meets(start, start.replace(hour=23, minute=59, second=59))

    def __str__(self) -> str:
        if self.since is None and self.until is None:
            return "all there is"
        since = "the beginning" if self.since is None else f"{self.since:%-d %b %Y}"
        until = "now" if self.until is None else f"{self.until:%-d %b %Y}"
        return f"{since} to {until}"


EVER = Period()
