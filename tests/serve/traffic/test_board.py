"""Replicas hear of a table as soon as it is in the ledger, whoever wrote it."""

from __future__ import annotations

import asyncio

import pytest

from raymlops.errors import ConflictError, NotFoundError, StaleLeaseError
from raymlops.ledger import Ledger
from raymlops.ledger.fencing import Fence
from raymlops.serve import Arm, TrafficTable
from raymlops.serve.traffic import board
from raymlops.serve.traffic.board import Standing, TrafficBoard
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.traffic.tables import TABLES

CANARY = TrafficTable(
    model=MODEL,
    arms=(
        Arm(name="champion", version="1.0.0", share=0.9),
        Arm(name="canary", version="1.0.1", share=0.1),
    ),
).to_dict()


def test_a_waiting_replica_is_woken_by_a_new_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        traffic = TrafficBoard(world.ledger_url)
        with monkeypatch.context() as patch:
            patch.setattr(board, "POLL_S", 20.0)
            waiting = asyncio.create_task(traffic.wait(MODEL, Standing(replica="r")))
            generation = await traffic.publish(MODEL, TABLES[0])
            published = await waiting
        assert published is not None
        assert (published.generation, published.table) == (generation, TABLES[0])
        assert await traffic.wait(MODEL, Standing(replica="r", generation=generation)) is None

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
