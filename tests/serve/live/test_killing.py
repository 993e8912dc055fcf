"""Whoever is killed, requests go on and every row is counted once."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, date, datetime

import httpx
import pytest
import ray

from raymlops.cluster import find
from raymlops.ledger import Ledger, Pane
from raymlops.models import PROBABILITY
from raymlops.serve import Arm, standing
from raymlops.serve.door.actor import all_doors
from tests.serve.conftest import MODEL
from tests.serve.live.service import EXPORTER, MONITOR, ON_RAY, Service, start_monitor
from tests.serve.load import eventually, load

pytestmark = ON_RAY

DAY = datetime(2013, 7, 1, 12, tzinfo=UTC)


def test_the_exporter_has_every_request_though_it_is_killed(service: Service) -> None:
    def count() -> float:
        """As Prometheus does: it looks for the exporter where that says it is."""
        (target,) = json.loads(service.targets.read_text())[0]["targets"]
        try:
            text = httpx.get(f"http://{target}/metrics").text
        except httpx.TransportError:
            return 0.0
        lines = [line for line in text.splitlines() if line.startswith("raymlops_requests_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if '"ok"' in line)

    ray.kill(find(EXPORTER), no_restart=False)  # of replicas that are no more it told until then
    with service.client() as client:
        for row in range(20):
            client.infer(MODEL, service.world.rows(row, row + 1))
    eventually(lambda: count() >= 20)
    before = count()
    ray.kill(find(EXPORTER), no_restart=False)
    eventually(lambda: count() >= before)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_replica_that_is_killed_fails_what_is_in_flight_or_with_a_retry_nothing(
    service: Service, retries: int
) -> None:
    eventually(lambda: "pid" in standing()[0]["replicas"][0])
    killed = standing()[0]["replicas"][0]["pid"]
    known = standing()[0]["lost"].get(MODEL, 0)
    with load(service.deployment.url, service.world, num_clients=4, retries=retries) as outcomes:
        eventually(lambda: len(outcomes) > 50)
        os.kill(killed, signal.SIGKILL)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 50, timeout_s=60.0)
    assert standing()[0]["lost"][MODEL] == known + 1
    failed = [outcome for outcome in outcomes if not outcome.startswith("1.0.")]
    assert len(failed) <= (0 if retries else 4)
    assert all(failure.startswith("503 ") for failure in failed)


def test_a_door_that_is_killed_fails_nothing(service: Service) -> None:
    (door,) = all_doors()
    with load(service.deployment.url, service.world, num_clients=2) as outcomes:
        eventually(lambda: len(outcomes) > 20)
        os.kill(ray.get(door.pid.remote()), signal.SIGKILL)
        with service.client() as late:  # its connection waits in the kernel's queue
            assert late.infer(MODEL, service.world.rows(0, 1)).arm
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 20)
    assert all(outcome.startswith("1.0.") for outcome in outcomes)
    (told,) = standing()
    assert told["addresses"] == [service.deployment.url.removeprefix("http://")]


def test_the_monitor_counts_every_row_once_though_it_is_killed(service: Service) -> None:
    with Ledger(service.world.ledger_url) as ledger, service.client() as client:

        def panes() -> list[Pane]:
            return ledger.observations.panes(MODEL, start=date(2013, 1, 1), end=date(2014, 1, 1))

        def rows() -> int:
            return sum(pane.num_rows for pane in panes())

        def ask(rounds: int) -> None:
            for _ in range(rounds):
                client.infer(MODEL, columns, event_time=DAY)

        columns = service.world.rows(0, 20)
        ask(20)
        os.kill(ray.get(find(MONITOR).pid.remote()), signal.SIGKILL)
        ask(20)
        ray.kill(find(MONITOR), no_restart=True)
        ask(20)
        start_monitor(service.world.ledger_url)
        eventually(lambda: rows() >= 60 * 20)
        ask(1)  # were anything counted twice, it would be there by the time this one is
        eventually(lambda: rows() >= 61 * 20)
        (pane,) = panes()
        bundle = service.world.bundles["1.0.0"]
        counts = bundle.profile.count(columns, bundle.predict(columns)[PROBABILITY])
    assert (pane.version, pane.arm, pane.day) == ("1.0.0", "champion", DAY.date())
    assert (pane.num_rows, pane.num_failed, sum(pane.latency)) == (61 * 20, 0, 61)
    assert pane.cells.tolist() == (61 * counts).tolist()


def test_the_board_comes_back_from_the_ledger(service: Service) -> None:
    ray.kill(find(service.deployment.board), no_restart=True)
    with service.client() as client:
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.0"
        service.split(Arm(name="champion", version="1.0.1", share=1.0))
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.1"
