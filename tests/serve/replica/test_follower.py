from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from raymlops.errors import (
    ClusterError,
    IntegrityError,
    LedgerError,
    RaymlopsError,
    UnavailableError,
)
from raymlops.ledger import patience
from raymlops.models import Bundle
from raymlops.serve import BatchPolicy, TrafficTable
from raymlops.serve.replica import follower
from raymlops.serve.replica.follower import Follower
from raymlops.serve.traffic.board import Published, Standing
from raymlops.serve.versions.arms import Arms


def published(generation: int, version: str) -> Published:
    return Published(generation=generation, table=TrafficTable.champion("m", version).to_dict())


class ScriptedBoard:
    """Answers polls one after the other, and then ends the follower; has no news while a table is
    being loaded, but those in `meanwhile`."""

    def __init__(self, *answers: Published | ClusterError | None) -> None:
        self.answers = list(answers)
        self.meanwhile: list[Published] = []
        self.standings: list[Standing] = []

    async def wait(self, standing: Standing) -> Published | None:
        if standing.loading:
            if self.meanwhile:
                return self.meanwhile.pop(0)
            await asyncio.Event().wait()
        self.standings.append(standing)
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    async def leave(self, replica: str) -> None:
        raise ClusterError("away")


def follow(
    board: ScriptedBoard, load: Any, *, then: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """The versions that are loaded at the end, after which `then` is called."""

    async def run() -> tuple[str, ...]:
        arms = Arms(load, BatchPolicy())
        follower = Follower(arms, board, "r")
        await follower.start_with(published(1, "1.0.0"))
        with contextlib.suppress(asyncio.CancelledError):
            await follower.run()
        await follower.leave()  # must not raise though the board is away
        versions = arms.versions
        then()
        await arms.close()
        return versions

    return asyncio.run(run())


def test_new_tables_are_followed_and_acknowledged(bundles: dict[str, Bundle]) -> None:
    board = ScriptedBoard(published(2, "1.0.1"), None, published(3, "1.0.2"))
    assert follow(board, bundles.__getitem__) == ("1.0.2",)
    assert [standing.generation for standing in board.standings] == [1, 2, 2, 3]


def test_a_newer_table_ends_the_loading_of_one_that_hangs(
    bundles: dict[str, Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """The replica heard of no table any more, and seemed healthy and gone to the board."""
    comes = threading.Event()

    def load(version: str) -> Bundle:
        if version == "1.0.1":
            comes.wait(30.0)
        return bundles[version]

    board = ScriptedBoard(published(2, "1.0.1"))
    board.meanwhile += [published(2, "1.0.1"), published(3, "1.0.2")]
    began = time.monotonic()
    try:
        assert follow(board, load, then=comes.set) == ("1.0.2",)
    finally:
        comes.set()
    assert time.monotonic() - began < 20.0
    assert [standing.generation for standing in board.standings] == [1, 3]
    assert "table 2 is given up while it is loaded" in caplog.messages


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


@pytest.fixture
def _tries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_RETRY_S", 0.0)


@pytest.mark.usefixtures("_tries_at_once")
def test_a_table_is_being_loaded_while_store_or_ledger_are_away(
    bundles: dict[str, Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """It was refused, by which a release of a healthy version was rolled back."""
    away: list[RaymlopsError] = [UnavailableError("503"), LedgerError("gone"), ClusterError("dead")]

    def load(version: str) -> Bundle:
        if version == "1.0.1" and away:
            raise away.pop(0)
        return bundles[version]

    board = ScriptedBoard(published(2, "1.0.1"))
    assert follow(board, load) == ("1.0.1",)
    assert board.standings[1:] == [Standing(replica="r", generation=2)]
    assert caplog.messages.count("table 2 is being loaded, and waits up to 5 minutes: 503") == 1


@pytest.mark.usefixtures("_tries_at_once")
def test_who_is_rolled_back_while_the_store_is_away_waits_no_longer(
    bundles: dict[str, Bundle],
) -> None:
    def load(version: str) -> Bundle:
        if version == "1.0.1":
            raise UnavailableError("503")
        return bundles[version]

    board = ScriptedBoard(published(2, "1.0.1"))
    board.meanwhile.append(published(3, "1.0.0"))
    assert follow(board, load) == ("1.0.0",)
    assert board.standings[1:] == [Standing(replica="r", generation=3)]


@pytest.mark.usefixtures("_tries_at_once")
def test_a_store_that_stays_away_is_reported(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)

    def load(version: str) -> Bundle:
        if version == "1.0.1":
            raise UnavailableError("503")
        return bundles[version]

    board = ScriptedBoard(published(2, "1.0.1"))
    assert follow(board, load) == ("1.0.0",)
    (refused,) = board.standings[1:]
    assert (refused.refused, refused.reason) == (2, "UnavailableError: 503")
