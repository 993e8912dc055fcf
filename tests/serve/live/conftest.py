from __future__ import annotations

from collections.abc import Iterator

import pytest

from raymlops.cluster import ClusterSettings, connect, spawn
from raymlops.models import Bundle
from raymlops.monitor import DriftPolicy
from raymlops.monitor.metrics import Exporter, ExporterSettings
from tests.serve.conftest import make_world
from tests.serve.live.service import EXPORTER, Service, start_monitor


@pytest.fixture(scope="package")
def _service(
    bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """On one Ray for all files of this folder: to start one and deploy a model takes longest."""
    from ray import serve

    world = make_world(bundles, tmp_path_factory.mktemp("world"))
    home = tmp_path_factory.mktemp("home")
    with connect(ClusterSettings(num_cpus=4), home=tmp_path_factory.mktemp("cluster")):
        start_monitor(world.ledger_url)
        spawn(Exporter, EXPORTER, world.ledger_url, ExporterSettings(), home, DriftPolicy())
        yield Service(world, home / "prometheus" / "raymlops.json")
        serve.shutdown()


@pytest.fixture
def service(_service: Service) -> Service:
    _service.restore()
    return _service
