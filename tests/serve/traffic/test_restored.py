"""A ledger that was restored, behind what replicas and boards know."""

from __future__ import annotations

from raymlops.ledger import Ledger
from raymlops.serve.traffic.board import Published, Standing, TrafficBoard
from tests.serve.conftest import MODEL, World
from tests.serve.coroutines import run
from tests.serve.traffic.tables import TABLES


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
