from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.serve.protocols.conftest import Listening


@pytest.fixture(scope="module")
def channel(server: Listening) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel
