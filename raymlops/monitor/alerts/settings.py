"""Who is told of what, and when not."""

from __future__ import annotations

from dataclasses import dataclass, field

from raymlops.config import check_durations
from raymlops.monitor.alerts.episodes import Severity
from raymlops.monitor.alerts.outbox import RetryPolicy
from raymlops.monitor.alerts.quiet import Maintenance
from raymlops.monitor.alerts.sinks.alertmanager import Alertmanager
from raymlops.monitor.alerts.sinks.base import Sink
from raymlops.monitor.alerts.sinks.log import Log
from raymlops.monitor.alerts.sinks.smtp import Smtp
from raymlops.monitor.alerts.sinks.webhook import Webhook


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Each sink that is set is told of everything from `min_severity` up; the log always is.

    An episode that nothing has renewed for `resolve_after_days` is over. `every_s` is how often
    somebody looks.
    """

    min_severity: Severity = "info"
    resolve_after_days: float = 35.0  # what months say again is not over between them
    every_s: float = 2.0
    maintenance: tuple[Maintenance, ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    webhook: Webhook | None = None
    smtp: Smtp | None = None
    alertmanager: Alertmanager | None = None

    def __post_init__(self) -> None:
        check_durations(self, "resolve_after_days", "every_s")


def open_sinks(settings: AlertSettings) -> tuple[Sink, ...]:
    """Those that are set, the log first."""
    mails = () if settings.smtp is None else settings.smtp.sinks()
    others = [each for each in (settings.webhook, settings.alertmanager) if each is not None]
    return (Log(), *others, *mails)
