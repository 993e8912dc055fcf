"""The one endpoint Prometheus scrapes for raymlops, beside those of Ray.

    replicas ──snapshots, 1/s──► put ──► Gathered ──┐
                                                    ├──► GET /metrics
    ledger, open alerts ──at most every 5 s─────────┘

What it has told it keeps in a file, so that no count falls when it is replaced: Prometheus takes a
counter that falls for one that began anew at 0, and all that a model ever did for what it did just
now.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.registry import Collector

from raymlops.cluster.files import replace_text
from raymlops.config import redact
from raymlops.data.drift import DriftPolicy
from raymlops.errors import RaymlopsError
from raymlops.ledger import Ledger, open_ledger
from raymlops.monitor.alerts.book import AlertBook
from raymlops.monitor.metrics.recorded import alert_series, recorded_series
from raymlops.telemetry import Gathered, Series, Snapshot, Told, catalogue, families

_LEDGER_EVERY_S = 5.0
# No rule looks back farther at what replicas count; a new cluster begins anew.
_RECALLED_FOR_S = 600.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExporterSettings:
    """Where metrics can be scraped; port 0 is any free one, `raymlops status` tells which."""

    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not within 0 and 65535")


def targets_file(home: Path) -> Path:
    """Where the exporter says at which address it is, in the words of Prometheus' `file_sd`."""
    return home / "prometheus" / "raymlops.json"


def _counts_file(home: Path) -> Path:
    return home / "prometheus" / "counts.json"


class Exporter:
    """Gathers snapshots and answers scrapes, as a plain object or spawned as an actor.

    In the home folder it says where it is, in each life anew, reads which alerts are open, and
    keeps what it has told for its next life.
    """

    def __init__(
        self,
        ledger_url: str,
        settings: ExporterSettings,
        home: Path,
        drift: DriftPolicy,
        code: str | None = None,
    ) -> None:
        self._made_from = {
            "code": code,
            "ledger_url": ledger_url,
            "settings": settings,
            "home": home,
            "drift": drift,
        }
        targets_file(home).parent.mkdir(parents=True, exist_ok=True)
        self._gathered = Gathered()
        self._counts = _counts_file(home)
        self._recall()
        self._lock = threading.Lock()
        registry = CollectorRegistry(auto_describe=False)
        ledger = open_ledger(ledger_url)
        registry.register(_Scrape(self._series, _Recorded(ledger, drift, AlertBook(home))))
        self._server, self._thread = start_http_server(
            settings.port, addr=settings.host, registry=registry
        )
        self._ledger = ledger
        self._address = f"{settings.host}:{self._server.server_port}"
        targets = targets_file(home)
        replace_text(targets, json.dumps([{"targets": [self._address], "labels": {}}]) + "\n")

    def made_from(self) -> Mapping[str, object]:
        """The arguments it was made from: one with others may take its place at any time."""
        return self._made_from

    def put(self, snapshot: Snapshot) -> None:
        """Takes in all that a process has counted so far."""
        with self._lock:
            self._gathered.put(snapshot, now_s=time.monotonic())

    def address(self) -> str:
        """HOST:PORT at which /metrics answers."""
        return self._address

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._ledger.close()

    def _series(self) -> tuple[Series, ...]:
        now_s = time.monotonic()
        with self._lock:
            sources = Series(catalogue.SOURCES.name, (), self._gathered.num_sources(now_s=now_s))
            self._remember()
            return (*self._gathered.series(now_s=now_s), sources)

    def _remember(self) -> None:
        """Before it is told: a life that is killed has told nothing that the next does not know."""
        try:
            replace_text(self._counts, msgspec.json.encode(self._gathered.told()).decode())
        except OSError as error:
            _logger.warning("what was counted cannot be kept for the next exporter: %s", error)

    def _recall(self) -> None:
        try:
            if time.time() - self._counts.stat().st_mtime > _RECALLED_FOR_S:
                return
            self._gathered.recall(msgspec.json.decode(self._counts.read_bytes(), type=Told))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            _logger.warning("counting begins anew, %s cannot be read: %s", self._counts, error)


class _Recorded:
    """What ledger and alert book tell, read again once it is some seconds old."""

    def __init__(self, ledger: Ledger, policy: DriftPolicy, book: AlertBook) -> None:
        self._ledger = ledger
        self._policy = policy
        self._book = book
        self._lock = threading.Lock()
        self._read: tuple[Series, ...] = ()
        self._due_s = 0.0

    def series(self) -> tuple[Series, ...]:
        with self._lock:
            if time.monotonic() >= self._due_s:
                self._read = (*self._read_ledger(), *self._read_book())
                self._due_s = time.monotonic() + _LEDGER_EVERY_S
            return self._read

    def _read_ledger(self) -> tuple[Series, ...]:
        """Without a ledger there are still the requests, and a metric that says so."""
        try:
            found = tuple(recorded_series(self._ledger, self._policy))
        except RaymlopsError as error:
            _logger.warning("the ledger cannot be read for its metrics: %s", redact(str(error)))
            return (Series(catalogue.LEDGER_UP.name, (), 0),)
        return (*found, Series(catalogue.LEDGER_UP.name, (), 1))

    def _read_book(self) -> tuple[Series, ...]:
        try:
            return tuple(alert_series(self._book.read()))
        except (OSError, ValueError) as error:
            _logger.warning("the open alerts cannot be read for their metric: %s", error)
            return ()


class _Scrape(Collector):
    def __init__(self, counted: Callable[[], tuple[Series, ...]], recorded: _Recorded) -> None:
        self._counted = counted
        self._recorded = recorded

    def collect(self) -> Iterator[Metric]:
        return families((*self._counted(), *self._recorded.series()))
