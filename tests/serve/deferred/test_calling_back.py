"""Who asked is called back, where the settings allow it."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress

import httpx
import pytest

from raymlops.serve.deferred.handler import call_back
from raymlops.serve.web import Response
from tests.serve.deferred.world import POLICY, RESULTS, World


def test_whom_to_call_back_is_for_the_settings_to_say(world: World) -> None:
    assert world.submit("r-1", webhook="https://hooks.example/a/b")[0] == 202
    world.answer()
    assert world.told == [("https://hooks.example/a/b", 200, "r-1")]
    assert POLICY.allows("https://hooks.example/a/b%20c?at=100%25")
    for url in (
        "https://hooks.example/b",
        "https://hooks.example/a/../b",
        "https://hooks.example/a/.%2E/b",
        "https://hooks.example/a/%252e%252e/b",
        "https://hooks.example/a/%2525252525252e/b",
        "https://hooks.example.evil/a/",
        "http://127.0.0.1/",
    ):
        status, body, _ = world.submit("r-2", webhook=url)
        assert (status, "serve.deferred.webhooks" in body["error"]) == (403, True)


def test_the_log_holds_no_url_of_a_webhook_which_may_be_a_secret(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reject(url: str, _: Response, __: str) -> None:
        raise httpx.HTTPStatusError(
            f"404 for {url}", request=httpx.Request("POST", url), response=httpx.Response(404)
        )

    world.deferring._call = reject
    monkeypatch.setattr("raymlops.serve.deferred.handler._CALL_BACKS", 1)
    webhook = "https://hooks.example/a/T0KEN"
    world.runner.run(world.deferring._tell(webhook, Response(200), "r-1"))
    message = "the webhook at hooks.example is not told of r-1 (1): it answers 404"
    assert caplog.messages == [message]


@pytest.mark.parametrize(
    ("said", "raised"),
    [(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, None), (b"HTTP/1.1 2", TimeoutError)],
)
def test_who_is_called_back_is_not_listened_to_for_ever(
    said: bytes, raised: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.deferred.handler._CALL_BACK_TIMEOUT_S", 0.5)
    heard: list[bytes] = []

    async def test() -> None:
        left = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"{}"))
            with suppress(OSError):
                while not writer.is_closing():  # says a head, or a body, that has no end
                    writer.write(said)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            left.set()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
            try:
                async with asyncio.timeout(5.0):
                    await call_back(url, Response(200, b"{}"), "r-1")
            finally:
                await left.wait()

    with pytest.raises(raised) if raised else nullcontext():
        asyncio.run(test())
    assert b"x-request-id: r-1" in heard[0]


def test_a_webhook_that_is_slow_keeps_no_replica_from_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Three attempts of ten seconds are more than a replica has to drain, which was killed then
    before it told the monitor of its last answers."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    world.deferring._call = never
    world.submit("r-1", webhook="https://hooks.example/a/b")

    async def end() -> None:
        world.waiting.pop(0)(Response(200, b'"kept"'))
        await asyncio.wait_for(world.deferring.close(0.2), 5.0)

    world.runner.run(end())
    assert world.ask("GET", f"{RESULTS}/r-1")[:2] == (200, "kept")
    assert caplog.messages == ["1 deferred requests are given up"]
