from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.train.keras.host import Host


@pytest.fixture(scope="session")
def tensorflow_host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()
