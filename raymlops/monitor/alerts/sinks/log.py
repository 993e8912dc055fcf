"""The log of the process that watches: always there, and never away."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from raymlops.monitor.alerts.episodes import Alert
from raymlops.monitor.alerts.sinks.base import headline

_logger = logging.getLogger(__name__)

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


@dataclass(frozen=True, kw_only=True)
class Log:
    @property
    def name(self) -> str:
        return "log"

    def send(self, alert: Alert) -> None:
        level = _LEVELS[alert.severity] if alert.status == "firing" else logging.INFO
        _logger.log(level, "%s: %s", headline(alert), alert.summary)
