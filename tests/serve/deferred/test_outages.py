"""A store that is away while answers are deferred."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raymlops.errors import StorageError, UnavailableError
from raymlops.ledger import patience
from raymlops.serve.deferred import Results
from raymlops.serve.web import Request
from tests.serve.deferred.world import RESULTS, World

WEBHOOK = "https://hooks.example/a/b"


def away(error: StorageError, *, times: int = 1_000) -> Callable[..., Any]:
    """In place of a method of `Results`, as often; and then that."""
    finish, left = Results.finish, [error] * times

    def fail(*args: Any) -> Any:
        if left:
            raise left.pop()
        return finish(*args)

    return fail


@pytest.mark.parametrize(
    "error", [UnavailableError("s3://bucket: 503"), StorageError("it is full")]
)
def test_whose_result_cannot_be_kept_or_read_may_come_again(
    error: StorageError, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a 500, an internal error."""
    world.submit("r-1")
    for name in ("begin", "get", "forget"):
        monkeypatch.setattr(Results, name, away(error))
    refused = (
        503,
        {"error": "results cannot be kept or read at the moment; try again"},
        {"retry-after": "5"},
    )
    assert world.submit("r-2") == refused
    assert world.ask("GET", f"{RESULTS}/r-1") == refused
    assert world.ask("DELETE", f"{RESULTS}/r-1") == refused
    assert world.refused == [503]
    assert len(world.waiting) == 1


def test_what_was_accepted_is_kept_once_the_store_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client was told that it was pending, for as long as results are kept, and then none."""
    monkeypatch.setattr(patience, "_RETRY_S", 0.0)
    monkeypatch.setattr(Results, "finish", away(UnavailableError("503"), times=3))
    world.submit("r-1")
    world.answer()
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (200, {"outputs": []})
    assert caplog.messages == [
        "the result of r-1 is to be kept, and waits up to 5 minutes: 503",
    ]


def test_a_webhook_does_not_wait_for_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raymlops.serve.deferred.handler._KEPT_FIRST_S", 0.01)
    monkeypatch.setattr(patience, "_RETRY_S", 0.0)
    told = threading.Event()

    def finish(*_: object) -> None:
        if not told.wait(30.0):
            pytest.fail("the webhook waits for the store")
        raise StorageError("it is full")

    async def call(*_: object) -> None:
        told.set()

    monkeypatch.setattr(Results, "finish", finish)
    world.deferring._call = call
    world.submit("r-1", webhook=WEBHOOK)
    world.answer()
    assert caplog.messages == ["the result of r-1 cannot be kept: it is full"]


def test_a_store_that_hangs_takes_no_thread_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each poll kept one for a minute and a half: keys that were revoked stayed good as long."""
    back = threading.Event()
    monkeypatch.setattr(Results, "get", lambda *_: back.wait(30.0))

    async def beside() -> None:
        polls = [asyncio.create_task(world._ask(_poll(number))) for number in range(64)]
        await asyncio.sleep(0)
        try:
            assert await asyncio.wait_for(asyncio.to_thread(lambda: "a key"), 10.0) == "a key"
        finally:
            back.set()
            for poll in polls:
                poll.cancel()

    world.runner.run(beside())


def _poll(number: int) -> Request:
    return Request("GET", f"{RESULTS}/r-{number}", headers={})
