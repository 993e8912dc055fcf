"""Connections over real sockets: patience, backpressure, disconnects, moving, draining."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import pytest
import uvloop

from raymlops.serve.http import HttpLimits, HttpServer, Strayed
from raymlops.serve.http.limits import surplus
from raymlops.serve.web import Reply, Request, Response, Routes

GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
HUGE = b"GET /huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OFFER = GET.replace(b"Host", b"Connection: upgrade\r\nUpgrade: h2c\r\nHost")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(
    request: pytest.FixtureRequest,
) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    make = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=make) as runner:
            runner.run(asyncio.wait_for(test(), 20.0))

    return run


Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class Echo:
    """Answers at once, or holds the reply until the test gives it."""

    def __init__(self) -> None:
        self.held: list[tuple[Request, Reply]] = []
        self.routes = Routes()
        self.routes.add("GET", "/echo", self.echo)
        self.routes.add("POST", "/echo", self.echo)
        self.routes.add("GET", "/large", lambda _, reply: reply(Response(200, b"x" * 1_000_000)))
        self.routes.add("GET", "/huge", lambda _, reply: reply(Response(200, b"x" * 20_000_000)))
        self.routes.add("GET", "/hold", lambda request, reply: self.held.append((request, reply)))

    def echo(self, request: Request, reply: Reply) -> None:
        reply(Response(200, request.body))


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[HttpServer, Echo, int]]:
    echo = Echo()
    server = HttpServer(echo.routes, options.pop("limits", HttpLimits()), **options)
    server.start()
    listening = socket.create_server(("127.0.0.1", 0))
    accepting = await server.listen(listening)
    try:
        yield server, echo, listening.getsockname()[1]
    finally:
        accepting.close()
        server.stop()
        while Caller.opened:
            await Caller.opened.pop().close()


class Caller:
    """A client that writes what it likes."""

    opened: ClassVar[list[Caller]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.opened.append(self)

    @classmethod
    async def to(cls, port: int, **options: Any) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    async def ask(self, sent: bytes) -> tuple[int, bytes, bool]:
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes, bool]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in head[1:-2])
        body = await self.reader.readexactly(int(fields[b"content-length"]))
        return int(head[0].split()[1]), body, b"connection" in fields

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def is_closed(self) -> bool:
        return await self.reader.read(1) == b""


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.001)


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


def test_who_sends_nothing_or_too_slowly_is_let_go(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, _, port):
            idle, head, body = [await Caller.to(port) for _ in range(3)]
            head.writer.write(GET[:10])
            body.writer.write(POST % (10, b"x"))
            await until(lambda: sum(c._received > 0 for c in server.connections) == 2)
            for seconds in (0.0, 9.0, 11.0):
                for connection in tuple(server.connections):
                    connection.sweep(server.now + seconds)
            assert (await head.answer())[0] == 408
            assert (await body.answer())[0] == 408
            assert await head.is_closed()
            assert await body.is_closed()
            assert (await idle.ask(GET))[0] == 200
            for connection in tuple(server.connections):
                connection.sweep(server.now + 200.0)
                connection.sweep(server.now + 300.0)
            assert await idle.is_closed()

    run(test)


def test_a_refusal_reaches_a_client_that_is_still_sending(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=HttpLimits(max_body_bytes=1000)) as (server, _, port):
            caller = await Caller.to(port)
            caller.writer.write(POST % (10_000_000, b"x" * 4_000_000))
            status, _, closes = await caller.answer()
            assert (status, closes) == (413, True)
            caller.writer.close()
            await until(lambda: not server.connections)

    run(test)


def test_a_client_that_does_not_read_fills_no_memory(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=HttpLimits(send_timeout_s=5.0)) as (server, _, port):
            caller = await Caller.to(port, limit=1024)
            large = GET.replace(b"echo", b"large")
            for _ in range(200):
                caller.writer.write(large)
            await until(lambda: any(c._is_stopped for c in server.connections))
            (connection,) = server.connections
            for _ in range(20):
                await asyncio.sleep(0.001)
            # What one read of 64 KiB can ask for at most, and not all that was ever asked.
            assert connection.machine.num_requests <= 200
            assert not connection._transport.is_reading()
            connection.sweep(server.now)
            connection.sweep(server.now + 6.0)
            await until(lambda: not server.connections)

    run(test)


def test_a_slow_client_gets_the_whole_of_its_last_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.http.connection._LINGER_S", 0.0)

    async def test() -> None:
        async with serving() as (server, _, port):
            caller = await Caller.to(port, limit=1024)
            caller.writer.write(HUGE)
            await until(lambda: any(c._ends_at is not None for c in server.connections))
            (connection,) = server.connections
            connection.sweep(server.now + 10.0)  # while nearly all of it is unsent
            assert await caller.answer() == (200, b"x" * 20_000_000, True)
            await until(lambda: connection._transport.get_write_buffer_size() == 0)
            connection.sweep(server.now + 11.0)
            await until(lambda: not server.connections)

    run(test)


def test_who_does_not_read_its_last_answer_is_cut(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=HttpLimits(send_timeout_s=5.0)) as (server, _, port):
            caller = await Caller.to(port, limit=1024)
            caller.writer.write(HUGE)
            await until(lambda: any(c._ends_at is not None for c in server.connections))
            (connection,) = server.connections
            connection.sweep(server.now + 4.0)
            assert server.connections
            connection.sweep(server.now + 6.0)
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


def test_bodies_that_never_end_fill_no_memory(run: Run) -> None:
    """The largest are given up, and of the others each is still waited for."""

    async def test() -> None:
        async with serving(limits=HttpLimits(max_body_bytes=1000)) as (_, _, port):
            callers = [await Caller.to(port) for _ in range(40)]
            for caller in callers[1:]:
                caller.writer.write(POST % (1000, b"x" * 810))
            callers[0].writer.write(POST % (1000, b"x" * 820))
            status, _, closes = await callers[0].answer()
            assert (status, closes) == (503, True)
            callers[1].writer.write(b"x" * 190)
            assert (await callers[1].answer())[0] == 200

    run(test)


def test_the_largest_are_too_much() -> None:
    sizes = {"a": 5, "b": 9, "c": 0, "d": 7}
    assert [surplus(sizes, limit) for limit in (21, 20, 12, 11, 0)] == [
        [], ["b"], ["b"], ["b", "d"], ["b", "d", "a"],
    ]  # fmt: skip


def test_connections_beyond_the_limit_are_cut(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=HttpLimits(max_connections=1)) as (server, _, port):
            first, second = await Caller.to(port), await Caller.to(port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await second.ask(GET)
            assert (await first.ask(GET))[0] == 200
            assert len(server.connections) == 1

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
