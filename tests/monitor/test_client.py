from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raymlops.errors import ClusterError
from raymlops.ledger import Ledger
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy
from raymlops.monitor.client import MonitorClient


class Monitor(DriftMonitor):
    def pid(self) -> int:
        return os.getpid()


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_a_monitor_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    import ray

    url, store = f"sqlite:///{tmp_path / 'ledger.db'}", str(tmp_path / "store")
    Ledger(url).close()
    handle = ray.remote(Monitor).remote(url, store, WindowPolicy(), DriftPolicy())
    client = MonitorClient(handle)
    assert client.advance("flights", datetime(2013, 5, 1, tzinfo=UTC)) == ()
    assert client.status("flights").num_predictions == 0
    os.kill(ray.get(handle.pid.remote()), signal.SIGKILL)
    with pytest.raises(ClusterError, match="the drift monitor did not answer label"):
        client.label([])
