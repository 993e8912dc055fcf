"""A ledger, a home, and a sentinel that is started for every look."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from raymlops.ledger import Decision, Ledger
from raymlops.monitor.alerts import (
    Alert,
    AlertBook,
    AlertSettings,
    DeliveryError,
    RetryPolicy,
    Sentinel,
    Signal,
)

NOW = datetime(2013, 7, 1, 12, tzinfo=UTC)
SETTINGS = AlertSettings(retry=RetryPolicy(first_s=10, factor=2, max_attempts=3))


@dataclass
class Recorder:
    """A sink that can be away."""

    name: str = "recorder"
    alerts: list[Alert] = field(default_factory=list)
    error: DeliveryError | None = None

    def send(self, alert: Alert) -> None:
        if self.error is not None:
            raise self.error
        self.alerts.append(alert)

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(alert.name, alert.status, alert.severity) for alert in self.alerts]


@dataclass
class World:
    ledger: Ledger
    home: Path
    sink: Recorder = field(default_factory=Recorder)
    seen: list[Signal] = field(default_factory=list)
    logged: list[Decision] = field(default_factory=list)
    settings: AlertSettings = SETTINGS

    @property
    def book(self) -> AlertBook:
        return AlertBook(self.home)

    def look(self, minutes: float = 0) -> None:
        """By a sentinel that has just been started."""
        sentinel = Sentinel(
            self.ledger,
            self.book,
            self.settings,
            [self.sink],
            watch=lambda: self.seen,
            log=self.logged.append,
        )
        sentinel.look(NOW + timedelta(minutes=minutes))
