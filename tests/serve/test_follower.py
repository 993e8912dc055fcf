from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from raymlops.errors import ClusterError, IntegrityError
from raymlops.models import Bundle
from raymlops.serve import BatchPolicy, TrafficTable, follower
from raymlops.serve.arms import Arms
from raymlops.serve.board import Published, Standing
from raymlops.serve.follower import Follower


def published(generation: int, version: str) -> Published:
    return Published(generation=generation, table=TrafficTable.champion("m", version).to_dict())


class ScriptedBoard:
    """Answers polls one after the other, and then ends the follower."""

    def __init__(self, *answers: Published | ClusterError | None) -> None:
        self.answers = list(answers)
        self.standings: list[Standing] = []

    async def wait(self, standing: Standing) -> Published | None:
        self.standings.append(standing)
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    async def leave(self, replica: str) -> None:
        raise ClusterError("away")


def follow(board: ScriptedBoard, load: Any) -> tuple[str, ...]:
    """The versions that are loaded at the end."""

    async def run() -> tuple[str, ...]:
        arms = Arms(load, BatchPolicy())
        follower = Follower(arms, board, "r")
        await follower.start_with(published(1, "1.0.0"))
        with contextlib.suppress(asyncio.CancelledError):
            await follower.run()
        await follower.leave()  # must not raise though the board is away
        versions = arms.versions
        await arms.close()
        return versions

    return asyncio.run(run())


def test_new_tables_are_followed_and_acknowledged(bundles: dict[str, Bundle]) -> None:
    board = ScriptedBoard(published(2, "1.0.1"), None, published(3, "1.0.2"))
    assert follow(board, bundles.__getitem__) == ("1.0.2",)
    assert [standing.generation for standing in board.standings] == [1, 2, 2, 3]


def test_serving_goes_on_while_the_board_is_away(
    bundles: dict[str, Bundle],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(follower, "RETRY_S", 0.0)
    board = ScriptedBoard(ClusterError("dead"), ClusterError("dead"), published(2, "1.0.1"))
    assert follow(board, bundles.__getitem__) == ("1.0.1",)
    assert caplog.messages.count("the traffic board is away, its last table stays: dead") == 1


def test_a_table_that_cannot_be_loaded_is_reported_and_tried_again(
    bundles: dict[str, Bundle],
) -> None:
    broken = [True]

    def load(version: str) -> Bundle:
        if version == "1.0.1" and broken.pop():
            raise IntegrityError("changed")
        return bundles[version]

    broken.insert(0, False)
    board = ScriptedBoard(published(2, "1.0.1"), None)
    assert follow(board, load) == ("1.0.1",)
    refused = board.standings[1]
    assert (refused.generation, refused.refused, refused.newest_known) == (1, 2, 2)
    assert refused.reason == "IntegrityError: changed"
    assert board.standings[2] == Standing(replica="r", generation=2)
