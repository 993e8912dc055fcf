"""A model that is served on a Ray of its own, and is as ever when a test begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster import spawn
from raymlops.ledger import Ledger
from raymlops.serve import (
    Arm,
    Client,
    ServeSettings,
    TapSummary,
    TrafficTable,
    deploy,
    publish,
    standing,
    undeploy,
    wait_applied,
)
from tests.serve.conftest import MODEL, World
from tests.serve.load import eventually

ON_RAY = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]
MONITOR = "test-monitor"
EXPORTER = "test-exporter"
SETTINGS = ServeSettings(port=0, proxy_port=0, grpc_port=0)
CHAMPION = Arm(name="champion", version="1.0.0", share=1.0)


class Service:
    """One replica whose champion answers alone, unless a test has it otherwise."""

    def __init__(self, world: World, targets: Path) -> None:
        self.world = world
        self.targets = targets
        self.deploy()
        self._arms: tuple[Arm, ...] = (CHAMPION,)

    def client(self) -> Client:
        return Client(self.deployment.url)

    def deploy(self, settings: ServeSettings = SETTINGS) -> None:
        self.deployment = deploy(
            MODEL,
            ledger_url=self.world.ledger_url,
            store_uri=self.world.store_uri,
            settings=settings,
            tap=MONITOR,
            exporter=EXPORTER,
        )
        self._settings: ServeSettings | None = settings

    def undeploy(self) -> None:
        undeploy(MODEL)
        self._settings = None

    def split(self, *arms: Arm) -> int:
        """Publishes a table, and returns when it is in force."""
        table = TrafficTable(model=MODEL, arms=arms, salt="test")
        self._arms = arms
        generation = publish(table, ledger_url=self.world.ledger_url)
        wait_applied(MODEL, generation, ledger_url=self.world.ledger_url)
        return generation

    def restore(self) -> None:
        """Undoes what the test before has left."""
        if self._settings != SETTINGS:
            self.deploy()
            eventually(lambda: len(standing()[0]["replicas"]) == 1)
        if self._arms != (CHAMPION,):
            self.split(CHAMPION)


def start_monitor(ledger_url: str) -> Any:
    return spawn(monitor_class(), MONITOR, ledger_url)


def monitor_class() -> type:
    """A class that actors get by value: they cannot import this module."""

    class Monitor:
        def __init__(self, ledger_url: str) -> None:
            self.ledger = Ledger(ledger_url)

        def observe(self, *messages: bytes) -> None:
            for summary in map(TapSummary.from_bytes, messages):
                self.ledger.observations.add_tap(
                    summary.replica, summary.sequence, summary.panes, summary.predictions
                )

        def pid(self) -> int:
            return os.getpid()

    return Monitor
