"""What a sink of alerts must do."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from raymlops.errors import RaymlopsError
from raymlops.monitor.alerts.episodes import Alert


class DeliveryError(RaymlopsError):
    """A sink did not take an alert; `permanent` where it never will, as it is, and not to be asked
    again before `retry_after_s`."""

    def __init__(self, message: str, permanent: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(message, permanent, retry_after_s)
        self.message = message
        self.permanent = permanent
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class Sink(Protocol):
    """Tells somebody of alerts, one after the other.

    What it is told may be told again, when nobody knows whether it arrived: `alert.id` and
    `alert.status` are the same then.
    """

    @property
    def name(self) -> str: ...

    def send(self, alert: Alert) -> None:
        """Returns once the alert is delivered.

        Raises:
            DeliveryError: it is not, or nobody knows.
        """
        ...


@runtime_checkable
class Forgetful(Protocol):
    """A sink that forgets what is wrong when it is started again: every `repeat_every_s` it is
    told once more of what is not over."""

    @property
    def repeat_every_s(self) -> float: ...


def deliver(sink: Sink, alert: Alert) -> None:
    """Has `sink` send the alert, and whatever it raises become a DeliveryError."""
    try:
        sink.send(alert)
    except DeliveryError:
        raise
    except Exception as error:  # the boundary of a sink: no other's alerts are to wait for it
        raise DeliveryError(f"{type(error).__name__}: {error}", True) from error


def document(alert: Alert) -> dict[str, Any]:
    """An alert as JSON."""
    ended = alert.ended_at
    return {
        "id": alert.id,
        "fingerprint": alert.fingerprint,
        "status": alert.status,
        "severity": alert.severity,
        "name": alert.name,
        "model": alert.model,
        "summary": alert.summary,
        "evidence": alert.evidence,
        "started_at": alert.started_at.isoformat(),
        "ended_at": None if ended is None else ended.isoformat(),
    }


def headline(alert: Alert) -> str:
    """An alert in one line."""
    word = alert.severity if alert.status == "firing" else "resolved"
    return f"[{word}] {alert.model}: {alert.name}"
