"""One Ray for all tests of the server that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raymlops.cluster import ClusterSettings, Session, connect


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with connect(ClusterSettings(num_cpus=4), home=tmp_path_factory.mktemp("ray")) as session:
        yield session
