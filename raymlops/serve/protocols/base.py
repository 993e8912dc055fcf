"""What the requests of every protocol have in common."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class About(NamedTuple):
    """What a request says of itself: `key` decides the arm, `timeout_s` is None without limit, and
    `event_time`, in UTC, where it is about the moment at which it comes."""

    id: str
    key: str
    event_time: datetime | None = None
    timeout_s: float | None = None
    priority: int = 0


class BaseAsk:
    """The envelope of a request to infer; its columns are not read yet."""

    __slots__ = ("event_time", "id", "key", "priority", "timeout_s", "version")

    def __init__(self, about: About, version: str | None) -> None:
        self.id, self.key, self.event_time, self.timeout_s, self.priority = about
        self.version = version
