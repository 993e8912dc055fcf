"""When a table is followed by all replicas, refused, or given up."""

from __future__ import annotations

import asyncio

import pytest

from raymlops.errors import ReleaseError
from raymlops.serve.traffic import board
from raymlops.serve.traffic.board import POLL_S, Sighting, Standing, TrafficBoard, judge
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.traffic.tables import TABLES


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
        with pytest.raises(ReleaseError, match=r"no replica of .* has come in 0\.1 s"):
            await TrafficBoard(world.ledger_url).applied(MODEL, 1, 0.1)

    run(test)
