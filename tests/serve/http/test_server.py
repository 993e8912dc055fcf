"""Connections over real sockets: requests, disconnects, draining."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from raymlops.serve.http import HttpLimits, HttpServer
from raymlops.serve.web import Response
from tests.serve.coroutines import until
from tests.serve.http.callers import GET, POST, Caller, Run, serving

OFFER = GET.replace(b"Host", b"Connection: upgrade\r\nUpgrade: h2c\r\nHost")


def test_a_connection_answers_one_request_after_the_other(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, _, port):
            caller = await Caller.to(port)
            for number in range(3):
                assert await caller.ask(POST % (1, b"%d" % number)) == (200, b"%d" % number, False)
            assert (server.num_accepted, len(server.connections)) == (1, 1)
            caller.writer.close()
            await until(lambda: not server.connections)

    run(test)


def test_many_requests_at_once_are_read_as_they_are_answered(run: Run) -> None:
    async def test() -> None:
        limits = HttpLimits(max_pipelined=4)
        async with serving(limits=limits) as (_, echo, port):
            caller = await Caller.to(port)
            hold = GET.replace(b"echo", b"hold")
            caller.writer.write(hold * 6)
            await until(lambda: len(echo.held) == 6)
            caller.writer.write(hold * 6)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert len(echo.held) == 6
            for number in range(6):
                echo.held[number][1](Response(200, b"%d" % number))
            assert [(await caller.answer())[1] for _ in range(6)] == [b"%d" % n for n in range(6)]
            await until(lambda: len(echo.held) == 12)

    run(test)


def test_a_client_that_leaves_is_noticed_and_the_rest_go_on(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, echo, port):
            gone: list[bool] = []
            leaving, staying = await Caller.to(port), await Caller.to(port)
            for caller in (leaving, staying):
                caller.writer.write(GET.replace(b"echo", b"hold"))
            await until(lambda: len(echo.held) == 2)
            for request, _ in echo.held:
                request.on_gone = lambda: gone.append(True)
            leaving.writer.transport.abort()
            await until(lambda: gone == [True])
            for _, reply in echo.held:
                reply(Response(200, b"late"))
            assert (await staying.answer())[1] == b"late"
            half = await Caller.to(port)
            half.writer.write(POST % (10, b"half"))
            half.writer.transport.abort()
            await until(lambda: len(server.connections) == 1)

    run(test)


def test_draining_answers_what_came_and_tells_the_rest(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, echo, port):
            idle, busy = await Caller.to(port), await Caller.to(port)
            await idle.ask(GET)
            busy.writer.write(GET.replace(b"echo", b"hold"))
            await until(lambda: len(echo.held) == 1)
            draining = asyncio.create_task(server.drain(10.0))
            assert await idle.is_closed()
            echo.held[0][1](Response(200))
            assert await busy.answer() == (200, b"", True)
            idle.writer.close()
            busy.writer.close()
            assert await draining == 0

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        GET,
        POST % (900, b"{"),
        OFFER,
        b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n",
        b"nonsense\r\n",
    ],
)
def test_a_connection_that_has_ended_is_freed_without_a_search_for_garbage(
    run: Run, sent: bytes
) -> None:
    async def test() -> None:
        async with serving() as (server, echo, port):
            caller = await Caller.to(port)
            caller.writer.write(sent)
            await until(lambda: received(server) == len(sent))
            gone = [weakref.ref(each) for each in server.connections]
            gone += [weakref.ref(each.machine) for each in server.connections]
            await caller.close()
            await until(lambda: not server.connections)
            echo.held.clear()
            await asyncio.sleep(0)
            assert [ref() for ref in gone] == [None, None]

    def received(server: HttpServer) -> int | None:
        return next((each._received for each in server.connections), None)

    gc.collect()
    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()
