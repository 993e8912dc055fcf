"""A ZooKeeper for the tests of this folder, and the places the contract is tested at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raymlops.coordination import Coordinator
from tests.coordination.places import Place
from tests.coordination.processes import Other
from tests.servers.zookeeper import Ensemble, zookeeper


@pytest.fixture(scope="session")
def one_server() -> Iterator[Ensemble]:
    with zookeeper() as ensemble:
        yield ensemble


@pytest.fixture(params=["embedded", "zookeeper"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Both backends: what uses this is the contract."""
    if request.param == "embedded":
        return Place(tmp_path)
    return Place(tmp_path, request.getfixturevalue("one_server").hosts)


@pytest.fixture
def zookeeper_place(one_server: Ensemble, tmp_path: Path) -> Place:
    return Place(tmp_path, one_server.hosts)


@pytest.fixture
def coordinator(place: Place) -> Iterator[Coordinator]:
    with place.connect() as coordinator:
        yield coordinator


@pytest.fixture
def start() -> Iterator[Callable[..., Other]]:
    """Starts processes that end with the test."""
    others: list[Other] = []

    def start(act: Callable[..., None], *arguments: Any) -> Other:
        others.append(Other(act, *arguments))
        return others[-1]

    yield start
    for other in others:
        other.end()
