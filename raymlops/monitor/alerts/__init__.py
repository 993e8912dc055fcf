"""Alerts: one an episode, told to every sink, until it is resolved.

decisions, replicas ──► signals ──► episodes ──► notices ──► outbox ──► sinks
                                      `── silences, maintenance  `── retry, dead letters
"""

from raymlops.monitor.alerts.book import AlertBook, Book
from raymlops.monitor.alerts.episodes import Alert, Episode, Severity, Signal, Status, advance
from raymlops.monitor.alerts.outbox import Letter, RetryPolicy
from raymlops.monitor.alerts.quiet import Maintenance, Silence
from raymlops.monitor.alerts.sentinel import Sentinel
from raymlops.monitor.alerts.settings import AlertSettings, open_sinks
from raymlops.monitor.alerts.signals import NAMES, signals_of
from raymlops.monitor.alerts.sinks.base import DeliveryError, Sink, deliver

__all__ = [
    "NAMES",
    "Alert",
    "AlertBook",
    "AlertSettings",
    "Book",
    "DeliveryError",
    "Episode",
    "Letter",
    "Maintenance",
    "RetryPolicy",
    "Sentinel",
    "Severity",
    "Signal",
    "Silence",
    "Sink",
    "Status",
    "advance",
    "deliver",
    "open_sinks",
    "signals_of",
]
