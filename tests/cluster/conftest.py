"""A home of their own for these tests, and one real cluster they share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.cluster import ClusterRecord, down, up


@pytest.fixture(scope="package", autouse=True)
def _private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's Ray token or RAY_ variables, nor leaves its own behind."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("user")))
        yield


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the shared cluster."""
    return tmp_path_factory.mktemp("raymlops")


@pytest.fixture(scope="package")
def cluster(_private_home: None, home: Path) -> Iterator[ClusterRecord]:
    """A head on loopback, started once by `up`."""
    record = up(None, home=home, num_cpus=2)
    yield record
    down(home)
