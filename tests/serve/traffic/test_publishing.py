"""The board as others reach it."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from raymlops.cluster import spawn
from raymlops.errors import ClusterError
from raymlops.ledger import Ledger
from raymlops.ledger.fencing import Fence
from raymlops.serve import TrafficTable
from raymlops.serve.traffic import publishing
from raymlops.serve.traffic.board import Standing, TrafficBoard
from raymlops.serve.traffic.publishing import board_name
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.traffic.tables import TABLES


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_cluster")
def test_a_board_that_stands_still_is_passed_by_and_started_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The way back was in the ledger, and no replica heard of it until a new board did.
    import ray

    with Ledger(world.ledger_url) as ledger:
        ledger.releases.publish(MODEL, TABLES[0])
    handle = spawn(TrafficBoard, board_name(world.ledger_url), world.ledger_url)
    pid = ray.get(handle.__ray_call__.remote(lambda _: os.getpid()))
    remote = publishing.RemoteBoard(MODEL, world.ledger_url)

    async def test() -> None:
        standing = Standing(replica="r")
        remote._link._timeout_s = 1.0
        monkeypatch.setattr(publishing, "_NUM_SILENCES", 2)
        os.kill(pid, signal.SIGSTOP)
        published = await remote.wait(standing)
        assert published is not None
        assert published.table == TABLES[0]
        # It stands still, and there is nothing new: it is ended.
        standing = Standing(replica="r", generation=published.generation)
        assert await remote.wait(standing) is None
        with Ledger(world.ledger_url) as ledger:
            ledger.releases.publish(MODEL, TABLES[1])
        remote._link._timeout_s = 60.0
        while True:
            try:
                published = await remote.wait(standing)
            except ClusterError:
                await asyncio.sleep(0.5)
            else:
                assert published is not None
                assert published.table == TABLES[1]
                return

    run(test, timeout_s=90.0)
    assert ray.get(handle.__ray_call__.remote(lambda _: os.getpid())) != pid
    ray.kill(handle)


def test_what_is_published_carries_the_fences_of_its_thread(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(publishing, "_ask", lambda *about: asked.append(about))
    fence = Fence(name="operator-m", token=2)
    with Ledger(world.ledger_url) as ledger, ledger.fenced(fence):
        publishing.publish(TrafficTable.champion(MODEL, "1.0.0"), ledger_url=world.ledger_url)
    ((*_, fences, _),) = asked
    assert fences == [fence]


def test_a_new_password_is_still_the_same_board() -> None:
    old, new = (
        board_name(f"postgresql+psycopg://raymlops:{password}@db.example/raymlops")
        for password in ("hunter2-old", "hunter2-new")
    )
    assert old == new
    assert old != board_name("postgresql+psycopg://raymlops:hunter2-old@db.example/other")


def test_who_waits_for_replicas_that_load_for_long_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`release` stood there without a word for as long as a store was away."""
    asked: list[tuple[object, ...]] = []
    board = SimpleNamespace(applied=SimpleNamespace(remote=lambda *given: asked.append(given)))
    monkeypatch.setattr(publishing, "spawn", lambda *_: board)
    monkeypatch.setattr("ray.wait", lambda answers, timeout: ([], answers))
    monkeypatch.setattr("ray.get", lambda *_, **__: ("r-1",))
    assert publishing.wait_applied("m", 3, ledger_url="sqlite:///ledger.db") == ("r-1",)
    assert asked == [("m", 3, 60.0)]
    assert caplog.messages == [
        "table 3 of m is waited for up to 10 minutes, for as long as replicas load what it names; "
        "what keeps them, such as a store that is away, is in their logs"
    ]
    caplog.clear()
    monkeypatch.setattr("ray.wait", lambda answers, timeout: (answers, []))
    publishing.wait_applied("m", 3, ledger_url="sqlite:///ledger.db")
    assert caplog.messages == []
