"""Tables for models of a pool that are not held."""

from __future__ import annotations

import numpy as np

from raymlops.ledger import Ledger
from raymlops.serve import TrafficTable
from raymlops.serve.traffic.board import Published
from tests.serve.conftest import World
from tests.serve.coroutines import until
from tests.serve.replica.wards import Ward, probability, run


def test_a_release_reaches_a_model_that_is_not_held(wards: World) -> None:
    async def test(ward: Ward) -> None:
        board = ward.boards["ward-0"]
        with Ledger(wards.ledger_url) as ledger:
            table = TrafficTable.champion("ward-0", "1.0.2").to_dict()
            generation = ledger.releases.publish("ward-0", table)
        await board.news.put(Published(generation=generation, table=table))
        await until(lambda: board.standing is not None and board.standing.generation > 1)
        assert ward.held == set()  # it was loaded to see that it can be, and let go
        np.testing.assert_allclose(
            probability(await ward.ask("ward-0")), ward.wanted("1.0.2"), rtol=1e-6
        )

    run(wards, test)


def test_a_table_that_cannot_be_loaded_is_refused_by_a_model_that_is_not_held(
    wards: World,
) -> None:
    async def test(ward: Ward) -> None:
        board = ward.boards["ward-0"]
        table = TrafficTable.champion("ward-0", "9.9.9").to_dict()
        await board.news.put(Published(generation=1000, table=table))
        await until(lambda: board.standing is not None and board.standing.refused == 1000)
        assert board.standing is not None
        assert "9.9.9" in board.standing.reason
        np.testing.assert_allclose(
            probability(await ward.ask("ward-0")), ward.wanted("1.0.0"), rtol=1e-6
        )

    run(wards, test)
