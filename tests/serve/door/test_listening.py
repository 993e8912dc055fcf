"""What becomes of connections where the process has no descriptors left."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raymlops.serve.door.listening import Listeners
from raymlops.serve.door.tasks import Tasks
from raymlops.serve.process.descriptors import most_open


@contextmanager
def allowed(number: int) -> Iterator[None]:
    """Descriptors from that number on cannot be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def next_descriptor() -> int:
    found = os.dup(0)
    os.close(found)
    return found


def test_a_door_without_descriptors_accepts_again_when_it_has_some(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
        listeners = Listeners(accepted.put_nowait, tls=None, tasks=Tasks())
        address = listeners.bind("127.0.0.1", 0).getsockname()
        with socket.create_connection(address):
            with allowed(next_descriptor()):
                began = time.process_time()
                await asyncio.sleep(0.5)
                assert time.process_time() - began < 0.25  # it was tried without a pause
            connection = await asyncio.wait_for(accepted.get(), 5.0)
            connection.close()
        listeners.close()

    asyncio.run(test())
    assert 1 <= len(caplog.messages) <= 6
    assert "nobody can be accepted at the moment: " in caplog.messages[0]


@pytest.mark.parametrize(
    ("number", "wanted", "held"),
    [(4096, 20_000, 3840), (4096, 100, 100), (300, 20_000, 150)],
)
def test_no_more_connections_are_held_than_there_are_descriptors(
    number: int, wanted: int, held: int
) -> None:
    with allowed(number):
        assert most_open(wanted) == held
