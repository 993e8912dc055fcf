"""How what watches is: the exporter, Prometheus, the book of alerts."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from raymlops.monitor.alerts import Book
from raymlops.monitor.metrics.prometheus import recorded_prometheus
from raymlops.operate.exporter import exporter_address

_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class MonitorHealth:
    """What watches: addresses are None where nothing answers there."""

    exporter: str | None
    prometheus: str | None
    num_open: int
    num_waiting: int
    num_dead: int
    num_silences: int


def monitor_of(home: Path, book: Book) -> MonitorHealth:
    exporter, prometheus = exporter_address(home), recorded_prometheus(home)
    url = None if exporter is None else f"http://{exporter}/metrics"
    return MonitorHealth(
        exporter=url if url is not None and _answers(url) else None,
        prometheus=prometheus.url if prometheus is not None and prometheus.running else None,
        num_open=len(book.episodes),
        num_waiting=len(book.letters) - len(book.dead),
        num_dead=len(book.dead),
        num_silences=len(book.silences),
    )


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT_S).close()
    except (OSError, HTTPException):  # another may have its port, and speak no HTTP
        return False
    return True
