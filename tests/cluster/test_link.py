from __future__ import annotations

import asyncio
import os
import signal

import pytest

from raymlops.cluster import find, spawn
from raymlops.cluster.link import ActorLink
from raymlops.errors import ClusterError, LedgerError, RefusedError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("joined")]

LISTENER = "listener"


def listener_class() -> type:
    """A class that actors get by value: they cannot import this module."""

    class Listener:
        def __init__(self) -> None:
            self.heard: list[int] = []

        def hear(self, number: int) -> list[int]:
            self.heard.append(number)
            return self.heard

        def pid(self) -> int:
            return os.getpid()

    return Listener


def test_however_often_a_stopped_actor_is_called_one_call_waits_for_it() -> None:
    import ray

    spawn(listener_class(), LISTENER)
    pid = ray.get(find(LISTENER).pid.remote())

    async def test() -> list[int]:
        link = ActorLink(LISTENER, timeout_s=5.0)
        assert await link.call("hear", 0) == [0]
        link._timeout_s = 0.2
        os.kill(pid, signal.SIGSTOP)
        for number in range(1, 6):
            with pytest.raises(ClusterError, match="listener: hear failed: TimeoutError"):
                await link.call("hear", number)
        os.kill(pid, signal.SIGCONT)
        link._timeout_s = 30.0
        return await link.call("hear", 6)

    try:
        assert asyncio.run(test()) == [0, 1, 6]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_an_actor_refuses_is_told_apart_from_what_it_fails_in() -> None:
    class Judge:
        def judge(self, error: Exception) -> None:
            raise error

    spawn(Judge, "judge")

    async def test() -> None:
        link = ActorLink("judge", timeout_s=30.0)
        with pytest.raises(RefusedError, match=r"^a NUL$") as refused:
            await link.call("judge", RefusedError("a NUL"))
        assert type(refused.value) is RefusedError
        for error in (LedgerError("the database is away"), ValueError("a mistake")):
            with pytest.raises(ClusterError, match=f"judge failed: .*{error}"):
                await link.call("judge", error)

    asyncio.run(test())


def test_an_actor_that_dies_while_it_stands_still_is_found_again() -> None:
    import ray

    pid = ray.get(spawn(listener_class(), LISTENER).pid.remote())

    async def test() -> list[int]:
        link = ActorLink(LISTENER, timeout_s=0.2)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ClusterError, match="TimeoutError"):
            await link.call("hear", 1)
        os.kill(pid, signal.SIGKILL)
        link._timeout_s = 30.0
        with pytest.raises(ClusterError, match=r"ActorDiedError|ActorUnavailableError"):
            await link.call("hear", 2)
        while True:
            try:
                return await link.call("hear", 3)
            except ClusterError:  # Ray has not restarted it yet
                await asyncio.sleep(0.1)

    assert asyncio.run(test()) == [3]
