from __future__ import annotations

from collections.abc import Iterator

import pytest

from raymlops.train.keras.spec import LoopName
from tests.train.keras.host import Host
from tests.train.keras.loops import LOOPS


@pytest.fixture(scope="session")
def tensorflow_host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> LoopName:
    found: LoopName = request.param
    return found
