"""Alertmanager, by version 2 of its API: it groups, routes and repeats as for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from raymlops.config import SecretUrl
from raymlops.monitor.alerts.episodes import SEVERITIES, Alert, Severity
from raymlops.monitor.alerts.sinks.http import post

_REPEAT_EVERY_S = 60.0  # what Prometheus does
# An episode ends when we say so. Where nobody is left who could, or the word did not arrive, it is
# over after a day: as long as letters are tried, by the default of `RetryPolicy`.
_FORGOTTEN_AFTER = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Alertmanager:
    """`url` is where it listens, such as http://127.0.0.1:9093.

    It keeps alerts in memory alone, and expects whoever sends them to go on, as Prometheus does.

    Routes match the label `severity`. Labels are what tells alerts apart there, so an episode that
    becomes worse is another alert, and the one of before is over.
    """

    url: SecretUrl

    @property
    def name(self) -> str:
        return "alertmanager"

    @property
    def repeat_every_s(self) -> float:
        return _REPEAT_EVERY_S

    def send(self, alert: Alert) -> None:
        milder = SEVERITIES[: SEVERITIES.index(alert.severity)]
        now = datetime.now(UTC)
        documents = [
            _document(alert, alert.severity, alert.ended_at or now + _FORGOTTEN_AFTER),
            *(_document(alert, severity, alert.ended_at or now) for severity in milder),
        ]
        post(f"{self.url.reveal().rstrip('/')}/api/v2/alerts", documents)


def _document(alert: Alert, severity: Severity, ends_at: datetime) -> dict[str, Any]:
    return {
        "labels": {
            "alertname": f"Raymlops{alert.name.title()}",
            "model": alert.model,
            "severity": severity,
            "fingerprint": alert.fingerprint,
        },
        "annotations": {"summary": alert.summary, "episode": alert.id},
        # By a clock that was set back it ends before it began: all of these would be refused.
        "startsAt": min(alert.started_at, ends_at).isoformat(),
        "endsAt": ends_at.isoformat(),
    }
