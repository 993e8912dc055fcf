from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from raymlops.cluster import spawn
from raymlops.errors import (
    ClusterError,
    ConflictError,
    NotFoundError,
    ReleaseError,
    StaleLeaseError,
)
from raymlops.ledger import Ledger
from raymlops.ledger.fencing import Fence
from raymlops.serve import Arm, TrafficTable
from raymlops.serve.traffic import board, publishing
from raymlops.serve.traffic.board import POLL_S, Published, Sighting, Standing, TrafficBoard, judge
from raymlops.serve.traffic.publishing import board_name
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run

TABLES = [TrafficTable.champion(MODEL, version).to_dict() for version in ("1.0.0", "1.0.1")]

CANARY = TrafficTable(
    model=MODEL,
    arms=(
        Arm(name="champion", version="1.0.0", share=0.9),
        Arm(name="canary", version="1.0.1", share=0.1),
    ),
).to_dict()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that trusts its memory at once, and polls that end soon."""
    monkeypatch.setattr(board, "_SETTLE_S", 0.0)
    monkeypatch.setattr(board, "POLL_S", 0.2)
    monkeypatch.setattr(board, "LOADING_S", 0.15)


def seen(replica: str, generation: int, *, refused: int = 0, at: float = 0.0) -> Sighting:
    standing = Standing(replica=replica, generation=generation, refused=refused, reason="broken")
    return Sighting(standing=standing, at=at)


def test_a_generation_is_judged_by_the_replicas_that_are_alive() -> None:
    sightings = [seen("a", 5), seen("b", 4), seen("c", 4, refused=5), seen("dead", 1, at=-1e3)]
    verdict = judge(sightings, 5, 0.0)
    assert verdict.following == ("a",)
    assert verdict.behind == ("b",)
    assert verdict.refusals == ("c: broken",)
    assert judge([seen("a", 6)], 5, POLL_S / 100).following == ("a",)


def test_a_replica_that_loads_a_table_is_behind_and_hears_of_newer_ones_alone(
    world: World,
) -> None:
    """It did not poll while it loaded, and after 30 s of that counted no more."""

    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        first = await board.publish(MODEL, TABLES[0])
        loading = Standing(replica="r", loading=first)
        poll = asyncio.create_task(board.wait(MODEL, loading))
        with pytest.raises(ReleaseError, match=r"after 0\.15 s not yet by \['r'\]"):
            await board.applied(MODEL, first, 0.1)
        assert await poll is None
        second = await board.publish(MODEL, TABLES[1])
        published = await board.wait(MODEL, loading)
        assert published is not None
        assert published.generation == second

    run(test)


def test_a_replica_that_loads_for_long_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of minutes could be deployed and never released: as one that no replica serves."""
    monkeypatch.setattr(board, "LOADING_S", 10.0)

    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        first = await board.publish(MODEL, TABLES[0])
        polls = [asyncio.create_task(board.wait(MODEL, Standing(replica="r", loading=first)))]
        applied = asyncio.create_task(board.applied(MODEL, first, 0.05))
        await asyncio.sleep(0.15)
        assert not applied.done()
        polls.append(
            asyncio.create_task(board.wait(MODEL, Standing(replica="r", generation=first)))
        )
        assert await applied == ("r",)
        await asyncio.gather(*polls)

    run(test)


def test_a_waiting_replica_is_woken_by_a_new_table(world: World) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        waiting = asyncio.create_task(board.wait(MODEL, Standing(replica="r")))
        generation = await board.publish(MODEL, TABLES[0])
        published = await waiting
        assert published is not None
        assert (published.generation, published.table) == (generation, TABLES[0])
        assert await board.wait(MODEL, Standing(replica="r", generation=generation)) is None

    run(test)


def test_a_table_is_in_the_ledger_before_anybody_hears_of_it(world: World) -> None:
    async def test() -> None:
        generation = await TrafficBoard(world.ledger_url).publish(MODEL, TABLES[0])
        with Ledger(world.ledger_url) as ledger:
            assert ledger.releases.published(MODEL) == (generation, TABLES[0])
        reborn = TrafficBoard(world.ledger_url)
        published = await reborn.wait(MODEL, Standing(replica="r"))
        assert published is not None
        assert published.generation == generation

    run(test)


def test_a_table_that_was_written_to_the_ledger_alone_is_found_by_the_next_poll(
    world: World,
) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        first = await board.publish(MODEL, TABLES[1])
        with Ledger(world.ledger_url) as ledger:
            generation = ledger.releases.publish(MODEL, TABLES[0])
        published = await board.wait(MODEL, Standing(replica="r", generation=first))
        assert published is not None
        assert (published.generation, published.table) == (generation, TABLES[0])

    run(test)


def test_a_ledger_that_was_restored_is_followed_by_who_follows_a_later_table(
    world: World,
) -> None:
    # Replicas stayed with the table they had, while `status` told what the ledger says, and every
    # release was taken for followed: its number was smaller than theirs.
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        with Ledger(world.ledger_url) as ledger:
            restored = ledger.releases.publish(MODEL, TABLES[0])
        published = await board.wait(MODEL, Standing(replica="r", generation=restored + 7))
        assert published is not None
        assert (published.generation, published.table) == (restored + 8, TABLES[0])
        # Another one that comes later follows the same; what is published is newer than all.
        again = await board.wait(MODEL, Standing(replica="s", generation=restored + 3))
        assert again == published
        assert await board.publish(MODEL, TABLES[1]) == restored + 9

    run(test)


def test_what_is_published_to_a_restored_ledger_is_newer_than_what_replicas_follow(
    world: World,
) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        first = await board.publish(MODEL, TABLES[0])
        await board._sight(MODEL, Standing(replica="r", generation=first + 5))
        assert await board.publish(MODEL, TABLES[1]) == first + 6
        with Ledger(world.ledger_url) as ledger:
            assert ledger.releases.published(MODEL) == (first + 6, TABLES[1])

    run(test)


def test_a_board_that_remembers_more_than_a_restored_ledger_tells_what_that_says(
    world: World,
) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        with Ledger(world.ledger_url) as ledger:
            restored = ledger.releases.publish(MODEL, TABLES[0])
        await board._learn(MODEL, Published(generation=restored + 7, table=TABLES[1]))
        published = await board.wait(MODEL, Standing(replica="r"))
        assert published is not None
        assert published.table == TABLES[0]

    run(test)


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


def test_a_table_of_unknown_versions_is_not_published(world: World) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        with pytest.raises(NotFoundError, match=r"no tumours 9\.9\.9"):
            await board.publish(MODEL, TrafficTable.champion(MODEL, "9.9.9").to_dict())
        with Ledger(world.ledger_url) as ledger:
            assert ledger.releases.published(MODEL) is None

    run(test)


def test_a_table_of_a_holder_that_was_replaced_is_not_published(world: World) -> None:
    # An operator that slept after it had looked at its lock had its table written by the board,
    # which carried no token.
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        newest = await board.publish(MODEL, TABLES[1], (Fence(name="operator-m", token=2),))
        with pytest.raises(StaleLeaseError, match="token 1 of the lock 'operator-m'"):
            await board.publish(MODEL, TABLES[0], (Fence(name="operator-m", token=1),))
        with Ledger(world.ledger_url) as ledger:
            assert ledger.releases.published(MODEL) == (newest, TABLES[1])

    run(test)


def test_what_was_decided_before_the_traffic_went_back_is_not_published(world: World) -> None:
    # An operator waited for a board that stood still, a person rolled back, and the canary had
    # its requests again.
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        await board.publish(MODEL, TABLES[0])
        with Ledger(world.ledger_url) as ledger:
            assert await board.publish(MODEL, TABLES[1], seen=TABLES[0])
            assert await board.publish(MODEL, TABLES[1], seen=TABLES[0])  # asked again
            for table in (TABLES[0], {}):  # rolled back, and undeployed
                generation = ledger.releases.publish(MODEL, table)
                with pytest.raises(ConflictError, match="by another hand since"):
                    await board.publish(MODEL, CANARY, seen=TABLES[1])
                assert (ledger.releases.published(MODEL) or (generation, {})) == (generation, table)

    run(test)


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


def test_applied_waits_for_every_replica(world: World) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        first = await board.publish(MODEL, TABLES[0])
        polls = [board.wait(MODEL, Standing(replica=name, generation=first)) for name in "ab"]
        both = asyncio.gather(*polls)
        await asyncio.sleep(0)
        second = await board.publish(MODEL, TABLES[1])
        await both
        applied = asyncio.create_task(board.applied(MODEL, second, 10.0))
        last = board.wait(MODEL, Standing(replica="a", generation=second))
        await last
        assert not applied.done()
        await board.leave(MODEL, "b")
        assert await applied == ("a",)

    run(test)


def test_applied_tells_what_a_replica_refused(world: World) -> None:
    async def test() -> None:
        board = TrafficBoard(world.ledger_url)
        generation = await board.publish(MODEL, TABLES[0])
        standing = Standing(replica="r", refused=generation, reason="IntegrityError: changed")
        assert await board.wait(MODEL, standing) is None
        with pytest.raises(ReleaseError, match="is refused: r: IntegrityError: changed"):
            await board.applied(MODEL, generation, 10.0)

    run(test)


def test_applied_gives_up_when_nobody_follows(world: World) -> None:
    async def test() -> None:
        with pytest.raises(ReleaseError, match=r"after 0\.1 s not yet by any other"):
            await TrafficBoard(world.ledger_url).applied(MODEL, 1, 0.1)

    run(test)


def test_a_new_password_is_still_the_same_board() -> None:
    old, new = (
        board_name(f"postgresql+psycopg://raymlops:{password}@db.example/raymlops")
        for password in ("hunter2-old", "hunter2-new")
    )
    assert old == new
    assert old != board_name("postgresql+psycopg://raymlops:hunter2-old@db.example/other")
