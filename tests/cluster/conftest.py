"""One real cluster that these tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.cluster import ClusterRecord, ClusterSettings, connect, down, up


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the shared cluster."""
    return tmp_path_factory.mktemp("raymlops")


@pytest.fixture(scope="package")
def cluster(home: Path) -> Iterator[ClusterRecord]:
    """A head on loopback, started once by `up`."""
    record = up(None, home=home, num_cpus=2)
    yield record
    down(home)


@pytest.fixture
def joined(cluster: ClusterRecord, home: Path) -> Iterator[None]:
    """This process is a driver on it."""
    with connect(ClusterSettings(address="auto"), home=home):
        yield
