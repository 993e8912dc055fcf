from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raymlops.cluster import find, spawn
from raymlops.errors import ClusterError
from raymlops.ledger import Ledger
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.monitor.client import MonitorClient

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

NAME = "monitor-called"


class Monitor(DriftMonitor):
    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], Any]:
    """Spawns the monitor of an empty ledger."""
    url, store = f"sqlite:///{tmp_path / 'ledger.db'}", str(tmp_path / "store")
    Ledger(url).close()
    return lambda: spawn(Monitor, NAME, url, store, WindowPolicy(), DriftPolicy())


def test_a_monitor_that_dies_or_is_replaced_answers_who_asks_again(
    start: Callable[[], Any],
) -> None:
    # A client kept the handle it was given: after a replacement nobody answered it ever again.
    import ray

    client = MonitorClient(NAME)
    os.kill(ray.get(start().pid.remote()), signal.SIGKILL)
    assert client.advance("flights", datetime(2013, 5, 1, tzinfo=UTC)) == ()
    ray.kill(find(NAME))
    start()
    assert client.status("flights").num_predictions == 0
    ray.kill(find(NAME))


def test_a_monitor_that_is_away_is_told_as_such(start: Callable[[], Any]) -> None:
    import ray

    client = MonitorClient(NAME, patience_s=0.0)
    ray.kill(start())
    with pytest.raises(ClusterError, match=f"did not answer label: no actor '{NAME}'"):
        client.label([])
