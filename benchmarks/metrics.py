"""What counting one request costs: all its metrics by raymlops, prometheus_client and Ray.

A request is two counters and four histograms: how it ended, its rows, and how long it took in all,
in the queue, in the making of its batch, and in the engine. CPU time, so that neighbours matter
less; ours includes the binning of the journal, and theirs starts from child metrics looked up once.
A replica tells of the requests of a batch together.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import prometheus_client

from benchmarks.figures import Figure, report
from raymlops.telemetry import CATALOGUE, RequestMeter, Snapshot, families
from raymlops.telemetry.snapshot import Gathered

LABELS = ("model", "version", "arm")
ARM = ("flights", "1.0.0", "champion")
PARTS_S = (0.0031, 0.0008, 0.00012, 0.002)
BATCH = 16
BOUNDS = CATALOGUE["raymlops_request_duration_seconds"].bounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    requests = 20_000 if parser.parse_args().quick else 200_000
    ways = {
        "ours": ours,
        "one by one": one_by_one,
        "prometheus_client": by_prometheus_client(),
        "ray.util.metrics": by_ray(),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(7):
        for name, count in ways.items():
            number = requests if name in ("ours", "one by one") else requests // 10
            before = time.process_time()
            count(number)
            spent[name].append((time.process_time() - before) / number * 1e6)
    cost = {name: statistics.median(values) for name, values in spent.items()}
    mine = cost.pop("ours")
    report(
        "metrics",
        [
            Figure(
                name="metrics_a_request_us",
                unit="us of CPU",
                ours=mine,
                references=cost,
                goal="< 1",
                met=mine < 1,
            ),
            Figure(
                name="metrics_scrape_ms",
                unit="ms",
                ours=_scrape_ms(),
                references={},
            ),
        ],
    )


class Request(NamedTuple):
    num_rows: int
    latency_s: float
    queue_s: float
    batch_s: float
    engine_s: float


def ours(number: int) -> None:
    meter = RequestMeter(ARM[0])
    batch = [Request(3, *PARTS_S)] * BATCH
    for _ in range(number // BATCH):
        meter.note_all("1.0.0", "champion", 200, batch)
    assert num_counted(meter) == number


def one_by_one(number: int) -> None:
    meter = RequestMeter(ARM[0])
    for _ in range(number):
        meter.note("1.0.0", "champion", 200, 3, *PARTS_S)
    assert num_counted(meter) == number


def num_counted(meter: RequestMeter) -> float:
    return sum(each.value for each in meter.series() if "requests" in each.metric)


def by_prometheus_client() -> Callable[[int], None]:
    registry = prometheus_client.CollectorRegistry()
    counters = [
        prometheus_client.Counter(name, "x", LABELS, registry=registry).labels(*ARM)
        for name in ("requests_total", "rows_total")
    ]
    histograms = [
        prometheus_client.Histogram(name, "x", LABELS, buckets=BOUNDS, registry=registry).labels(
            *ARM
        )
        for name in ("all_seconds", "queue_seconds", "batch_seconds", "engine_seconds")
    ]

    def count(number: int) -> None:
        for _ in range(number):
            counters[0].inc()
            counters[1].inc(3)
            for histogram, part in zip(histograms, PARTS_S, strict=True):
                histogram.observe(part)

    return count


def by_ray() -> Callable[[int], None]:
    """Outside of a cluster, where recording costs the same and nothing is sent."""
    from ray.util import metrics

    tags = dict(zip(LABELS, ARM, strict=True))
    counters = [metrics.Counter(name, "x", LABELS) for name in ("requests_total", "rows_total")]
    histograms = [
        metrics.Histogram(name, "x", boundaries=list(BOUNDS), tag_keys=LABELS)
        for name in ("all_seconds", "queue_seconds", "batch_seconds", "engine_seconds")
    ]

    def count(number: int) -> None:
        for _ in range(number):
            counters[0].inc(1, tags)
            counters[1].inc(3, tags)
            for histogram, part in zip(histograms, PARTS_S, strict=True):
                histogram.observe(part, tags)

    return count


def _scrape_ms() -> float:
    """What gathering and writing down eight replicas of ten versions each costs, once a scrape."""
    gathered = Gathered()
    for replica in range(8):
        meter = RequestMeter(ARM[0])
        for version in range(10):
            for part in range(50):
                times_s = (part * 1e-3, part * 1e-6, 1e-8, part * 1e-5)
                meter.note(f"1.0.{version}", "champion", 200, 1, *times_s)
        snapshot = Snapshot(source=str(replica), sequence=0, series=meter.series())
        gathered.put(snapshot, now_s=0.0)
    registry = prometheus_client.CollectorRegistry(auto_describe=False)

    class Collector:
        def collect(self) -> object:
            return families(gathered.series(now_s=1.0))

    registry.register(Collector())  # type: ignore[arg-type]
    spent_s = []
    for _ in range(5):
        before = time.process_time()
        prometheus_client.generate_latest(registry)
        spent_s.append(time.process_time() - before)
    return statistics.median(spent_s) * 1e3


if __name__ == "__main__":
    main()
