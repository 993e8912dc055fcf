from __future__ import annotations

from pathlib import Path

import pytest

from raymlops.ledger import Ledger
from tests.monitor.alerts.world import World
from tests.monitor.metrics.conftest import decide


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    decide(ledger, "gate", "1.0.1 refused")  # before anybody watched
    world = World(ledger, tmp_path / "home")
    world.look()
    assert world.sink.told == []
    return world
