"""The exporter, scraped by an independent client, by promtool and by a real Prometheus."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raymlops.data.drift import DriftPolicy
from raymlops.ledger import Ledger
from raymlops.monitor.alerts import AlertBook, Signal, advance
from raymlops.monitor.metrics import Exporter, ExporterSettings
from raymlops.telemetry import CATALOGUE, RequestMeter, Series, Snapshot
from tests.monitor.metrics.conftest import MODEL
from tests.servers.prometheus import prometheus, promtool


@pytest.fixture
def exporter(busy_ledger: Ledger, tmp_path: Path) -> Iterator[Exporter]:
    exporter = Exporter(busy_ledger.url, ExporterSettings(), tmp_path, DriftPolicy())
    yield exporter
    exporter.close()


def scrape(exporter: Exporter) -> str:
    with urllib.request.urlopen(f"http://{exporter.address()}/metrics", timeout=10) as reply:
        text: str = reply.read().decode()
    return text


def fed(exporter: Exporter) -> None:
    """Two replicas tell of everything that a replica can count."""
    for replica, requests in (("a", 5), ("b", 7)):
        meter = RequestMeter(MODEL)
        for number in range(requests):
            times = {"total_s": 3e-3, "queue_s": 1e-6, "batch_s": 1e-9, "engine_s": 9e-7}
            meter.note("1.0.0", "champion", 200, rows=number, **times)
        meter.note("none", "none", 413, rows=0, total_s=1e-8)
        others = [
            _example(name)
            for name in CATALOGUE
            if name.startswith(("raymlops_batch", "raymlops_queue", "raymlops_cache"))
            or name in ("raymlops_requests_in_flight", "raymlops_model_load_seconds")
        ]
        series = (*meter.series(), *others)
        exporter.put(Snapshot(source=replica, sequence=0, series=series))


def _example(name: str) -> Series:
    metric = CATALOGUE[name]
    labels = tuple(MODEL if label == "model" else f"a-{label}" for label in metric.labels)
    return Series(name, labels, 3, (1,) * (len(metric.bounds) + 1) if metric.bounds else ())


def test_replicas_and_ledger_are_scraped_as_one(exporter: Exporter) -> None:
    fed(exporter)
    text = scrape(exporter)
    found = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    arm = ("champion", MODEL, "1.0.0")
    assert found["raymlops_requests_total", "champion", MODEL, "ok", "1.0.0"] == 12
    assert found["raymlops_request_errors_total", "none", "too_large", MODEL, "none"] == 2
    assert found["raymlops_retrains_total", MODEL, "suppressed"] == 2
    buckets = "raymlops_request_duration_seconds_bucket"
    assert found[buckets, "champion", "0.002", MODEL, "1.0.0"] == 0
    assert found[buckets, "champion", "0.005", MODEL, "1.0.0"] == 12
    assert found["raymlops_request_duration_seconds_sum", *arm] == pytest.approx(0.036)
    assert found["raymlops_exporter_sources",] == 2
    assert found["raymlops_ledger_up",] == 1


def test_open_alerts_are_scraped(exporter: Exporter, tmp_path: Path) -> None:
    """The metric was in the catalogue and on a dashboard, and nobody exported it."""
    trouble = [Signal(name=name, model=MODEL, firing=True) for name in ("drift", "gate")]
    with AlertBook(tmp_path).open() as book:
        book.episodes, _ = advance((), trouble, datetime.now(UTC))
    text = scrape(exporter)
    assert f'raymlops_alerts_open{{model="{MODEL}",severity="warning"}} 2.0' in text


def test_the_scraped_text_keeps_the_conventions(exporter: Exporter) -> None:
    fed(exporter)
    assert promtool("check", "metrics", stdin=scrape(exporter)) == ""


def test_without_a_ledger_the_requests_are_still_scraped(
    exporter: Exporter, busy_ledger: Ledger
) -> None:
    fed(exporter)
    with busy_ledger.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE decisions RENAME TO hidden")
    text = scrape(exporter)
    assert "raymlops_ledger_up 0.0" in text
    assert 'outcome="ok"' in text
    assert "raymlops_drift" not in text


def test_no_count_falls_when_the_exporter_is_replaced(
    exporter: Exporter, busy_ledger: Ledger, tmp_path: Path
) -> None:
    """Those of replicas that were gone were lost, and to Prometheus all requests that the others
    ever answered were new: a day-old outage alerted once more."""
    fed(exporter)
    before = scrape(exporter)
    for number in (1, 2):
        heir = Exporter(busy_ledger.url, ExporterSettings(), tmp_path, DriftPolicy())
        if number == 2:
            fed(heir)  # which it knows already
        counts = [line for line in scrape(heir).splitlines() if "_total{" in line]
        heir.close()
        assert counts == [line for line in before.splitlines() if "_total{" in line]


def test_what_was_told_long_ago_is_forgotten(
    exporter: Exporter, busy_ledger: Ledger, tmp_path: Path
) -> None:
    """Else every version that was ever served would be told of for ever."""
    fed(exporter)
    scrape(exporter)
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / "prometheus" / "counts.json", (an_hour_ago, an_hour_ago))
    heir = Exporter(busy_ledger.url, ExporterSettings(), tmp_path, DriftPolicy())
    assert "raymlops_requests_total{" not in scrape(heir)
    heir.close()


def test_an_exporter_begins_anew_where_it_cannot_know(
    busy_ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prometheus" / "counts.json"
    path.parent.mkdir()
    path.write_text('{"newest": ')
    exporter = Exporter(busy_ledger.url, ExporterSettings(), tmp_path, DriftPolicy())
    assert "raymlops_exporter_sources 0.0" in scrape(exporter)
    exporter.close()
    assert "counting begins anew" in caplog.text


def test_a_real_prometheus_finds_and_scrapes_it(exporter: Exporter, tmp_path: Path) -> None:
    fed(exporter)
    targets = tmp_path / "prometheus" / "raymlops.json"
    config = tmp_path / "prometheus.yml"
    job = {"job_name": "raymlops", "file_sd_configs": [{"files": [str(targets)]}]}
    config.write_text(json.dumps({"global": {"scrape_interval": "500ms"}, "scrape_configs": [job]}))
    wanted = "sum(raymlops_requests_total)"
    with prometheus(config, tmp_path) as server:
        deadline = time.monotonic() + 20
        while not (found := server.query(wanted)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found, server.get("targets")["activeTargets"]
        p99 = server.query(
            "histogram_quantile(0.99, sum by (le) (raymlops_request_duration_seconds_bucket))"
        )
    assert found[0]["value"][1] == "14"
    assert 0.002 < float(p99[0]["value"][1]) <= 0.005
