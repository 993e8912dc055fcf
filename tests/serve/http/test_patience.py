"""Clients that are slow, or too many: patience, backpressure, memory."""

from __future__ import annotations

import asyncio
import time

import pytest

from raymlops.serve.http import HttpLimits, HttpServer
from raymlops.serve.http.limits import Phase, idlest, surplus
from tests.serve.coroutines import until
from tests.serve.http.callers import GET, HUGE, POST, Caller, Run, serving


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


def test_who_idles_longest_makes_room_when_nearly_all_places_are_taken(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.http.connection._LINGER_S", 0.0)

    async def test() -> None:
        async with serving(limits=HttpLimits(max_connections=16)) as (server, _, port):
            first, *others = [await Caller.to(port) for _ in range(16)]
            for caller in (first, *others):
                assert (await caller.ask(GET))[0] == 200
            sweep(server, after_s=0.0)
            assert (await first.ask(GET))[0] == 200
            others[0].writer.write(GET[:10])
            await until(lambda: sum(c.machine.phase is Phase.HEAD for c in server.connections) == 1)
            for later_s in (4.0, 6.0):  # the first sweep sees who has spoken since
                sweep(server, after_s=later_s)
            for _ in range(2):  # who is ending already counts no more
                server._make_room()
            await until(lambda: sum(c.is_ending for c in server.connections) == 1)
            sweep(server, after_s=8.0)
            await until(lambda: len(server.connections) == 15)
            server._make_room()
            assert (await first.ask(GET))[0] == 200
            others[0].writer.write(GET[10:])
            assert (await others[0].answer())[0] == 200
            assert len(server.connections) == 15

    run(test)


def test_of_all_that_idle_long_the_idlest_are_found() -> None:
    idle_s = {"new": 0.0, "short": 4.9, "long": 5.0, "longer": 60.0, "longest": 70.0}
    assert idlest(idle_s, 2) == ["longest", "longer"]
    assert idlest(idle_s, 9) == ["longest", "longer", "long"]


def sweep(server: HttpServer, *, after_s: float) -> None:
    """As if so much time had passed since the last sweep but this."""
    server.now = time.monotonic() + after_s
    for connection in tuple(server.connections):
        connection.sweep(server.now)


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
