"""The monitor's process is stopped while its model takes traffic: nobody who asks may notice."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psutil
import pytest

from raymlops.cluster import Session, spawn
from raymlops.ledger import Ledger
from raymlops.models import Bundle
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.serve import Client, Deployment, ServeSettings, deploy, standing
from tests.serve.conftest import MODEL, World, make_world

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]

MONITOR = "stopped-monitor"
DAY = datetime(2013, 7, 1, 12, tzinfo=UTC)
TIMEOUT_S = 5.0
NUM_CLIENTS = 2
RING_ROWS = 65_536
MEBIBYTE = 1 << 20


def monitor_class() -> type:
    """A class that actors get by value: they cannot import this module."""

    class Monitor(DriftMonitor):
        def pid(self) -> int:
            return os.getpid()

    return Monitor


@dataclass
class Service:
    """A model behind a door, and the process of its monitor."""

    world: World
    deployment: Deployment
    monitor_pid: int
    num_sent: int = 0

    def ask(self, rounds: int, num_rows: int = 1) -> list[float]:
        """Seconds each request took; raises what a client raises of one that failed."""
        columns = self.world.rows(0, min(num_rows, 500))

        def client(_: int) -> list[float]:
            taken = []
            with Client(self.deployment.url, retries=0, timeout_s=TIMEOUT_S) as client:
                for _ in range(rounds):
                    started = time.perf_counter()
                    client.infer(MODEL, columns, event_time=DAY)
                    taken.append(time.perf_counter() - started)
            return taken

        with ThreadPoolExecutor(NUM_CLIENTS) as threads:
            found = [taken for each in threads.map(client, range(NUM_CLIENTS)) for taken in each]
        self.num_sent += len(found) * len(columns["radius"])
        return found

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The monitor does nothing at all within the block, and does not know it."""
        os.kill(self.monitor_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.monitor_pid, signal.SIGCONT)

    def counted(self) -> int:
        with Ledger(self.world.ledger_url) as ledger:
            panes = ledger.observations.panes(MODEL, start=date.min, end=date.max)
        return sum(pane.num_rows for pane in panes)

    def settle(self, num_rows: int) -> int:
        """Rows counted, once they are at least so many and a second has added none."""
        never, found = threading.Event(), -1
        for _ in range(60):
            before, found = found, self.counted()
            if found >= num_rows and found == before:
                break
            never.wait(1.0)
        return found


@pytest.fixture(scope="module")
def service(
    ray_cluster: Session, bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    import ray
    from ray import serve

    world = make_world(bundles, tmp_path_factory.mktemp("world"))
    policies = WindowPolicy(), DriftPolicy()
    monitor = spawn(
        monitor_class(), MONITOR, world.ledger_url, world.store_uri, *policies, max_concurrency=8
    )
    deployment = deploy(
        MODEL,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        settings=ServeSettings(port=0, proxy_port=0),
        tap=MONITOR,
    )
    yield Service(world, deployment, ray.get(monitor.pid.remote()))
    serve.shutdown()


def test_a_stopped_monitor_slows_no_request_and_loses_none(service: Service) -> None:
    service.ask(100)  # to warm up
    running, stopped = [], []
    for _ in range(4):  # in turns, so that whatever else the machine does meets both
        running.append(service.ask(150))
        with service.stopped():
            stopped.append(service.ask(150))
    medians = [min(map(statistics.median, each)) for each in (running, stopped)]
    p99s = [min(map(_p99, each)) for each in (running, stopped)]
    slowest = max(max(taken) for taken in stopped)
    told = f"medians {medians}, p99s {p99s}, slowest {slowest}"
    assert medians[1] <= 2.0 * medians[0], told
    assert p99s[1] <= 3.0 * p99s[0], told
    assert slowest < TIMEOUT_S, told
    assert service.settle(service.num_sent) == service.num_sent


def test_while_the_monitor_is_stopped_a_replica_keeps_a_ring_and_no_more(service: Service) -> None:
    (replica,) = standing()[0]["replicas"]
    process = psutil.Process(replica["pid"])
    before = service.counted()
    assert before == service.num_sent
    with service.stopped():
        service.ask(80, num_rows=500)
        full = process.memory_info().rss
        sent = service.num_sent
        assert sent - before > RING_ROWS
        service.ask(400, num_rows=500)
        grown = process.memory_info().rss - full
    assert service.num_sent - sent > 5 * RING_ROWS
    assert grown < 16 * MEBIBYTE
    # What was on its way when the monitor stopped, what the ring held, and what came after.
    found = service.settle(before + RING_ROWS - 500) - before
    assert RING_ROWS - 500 <= found <= 2 * RING_ROWS


def _p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]
