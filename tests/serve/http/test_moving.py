"""Connections that go on in another process, between two requests."""

from __future__ import annotations

import asyncio
import os
import socket

from raymlops.serve.http import Strayed
from raymlops.serve.web import Response
from tests.serve.coroutines import until
from tests.serve.http.callers import GET, POST, Caller, Run, serving


def test_a_connection_moves_between_two_requests_and_its_client_sees_nothing(run: Run) -> None:
    async def test() -> None:
        async with serving() as (old, echo, port), serving() as (new, _, _):
            moved: list[socket.socket] = []

            def hand_over(descriptor: int, strayed: Strayed | None) -> None:
                assert strayed is None
                moved.append(socket.socket(fileno=os.dup(descriptor)))

            idle, busy = await Caller.to(port), await Caller.to(port)
            await idle.ask(GET)
            busy.writer.write(GET.replace(b"echo", b"hold"))
            await until(lambda: len(echo.held) == 1)
            draining = asyncio.create_task(old.drain(10.0, hand_over))
            await until(lambda: len(moved) == 1)
            idle.writer.write(GET)  # while nobody has the connection
            echo.held[0][1](Response(200))
            assert (await busy.answer())[2] is False
            assert await draining == 0
            for connection in moved:
                await new.adopt(connection)
            assert (await idle.answer())[0] == 200
            assert (await busy.ask(POST % (3, b"new")))[1] == b"new"
            assert (len(old.connections), len(new.connections)) == (0, 2)

    run(test)


def test_a_connection_moves_once_a_slow_client_has_read_its_last_answer(run: Run) -> None:
    async def test() -> None:
        async with serving() as (old, _, port), serving() as (new, _, _):
            moved: list[socket.socket] = []

            def hand_over(descriptor: int, strayed: Strayed | None) -> None:
                moved.append(socket.socket(fileno=os.dup(descriptor)))

            callers = [await Caller.to(port, limit=1024) for _ in range(2)]
            for caller in callers:
                caller.writer.write(GET.replace(b"echo", b"large") * 20)
            await until(lambda: [c._is_stopped for c in old.connections] == [True, True])
            draining = asyncio.create_task(old.drain(5.0, hand_over))
            for caller in callers:
                assert [len((await caller.answer())[1]) for _ in range(20)] == [1_000_000] * 20
            assert await draining == 0
            for connection in moved:
                await new.adopt(connection)
            assert [(await caller.ask(POST % (3, b"new")))[1] for caller in callers] == [b"new"] * 2

    run(test)


def test_a_request_for_another_model_takes_its_connection_along(run: Run) -> None:
    async def test() -> None:
        async with serving() as (theirs, _, _):
            moves: list[asyncio.Task[None]] = []

            def hand_over(descriptor: int, strayed: Strayed | None) -> None:
                assert strayed is not None
                connection = socket.socket(fileno=os.dup(descriptor))
                moves.append(asyncio.create_task(theirs.adopt(connection, strayed.read)))

            options = {"belongs": lambda path: path != "/echo", "hand_over": hand_over}
            async with serving(**options) as (ours, _, port):
                caller = await Caller.to(port)
                assert (await caller.ask(GET.replace(b"echo", b"large")))[0] == 200
                assert (await caller.ask(POST % (5, b"moved")))[1] == b"moved"
                assert (len(ours.connections), len(theirs.connections)) == (0, 1)

    run(test)
