"""Replicas come, leave and die; clients are handed on, and notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from raymlops.serve.web import Response
from tests.serve.coroutines import until
from tests.serve.door.world import INFER, Run, World


def test_a_new_replica_is_given_some_of_the_connections_there_are(run: Run) -> None:
    async def test(world: World) -> None:
        one = await world.replica("one")
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(world.client()) for _ in range(8)]
            for client in clients:
                await client.get(INFER.format("flights"))
            other = await world.replica("other")
            await until(lambda: other.connections == 4 and one.connections == 4)
            answers = [(await client.get(INFER.format("flights"))).text for client in clients]
            assert sorted(answers) == ["one"] * 4 + ["other"] * 4

    run(test)


def test_a_replica_that_leaves_fails_no_request(run: Run) -> None:
    async def test(world: World) -> None:
        old = await world.replica("old")
        async with world.client() as idle, world.client() as busy:
            await idle.get(INFER.format("flights"))
            old.held = []
            asked = asyncio.create_task(busy.get(INFER.format("flights")))
            await until(lambda: bool(old.held))
            new = await world.replica("new")
            leaving = asyncio.create_task(old.doorway.leave(10.0))
            assert (await idle.get(INFER.format("flights"))).text == "new"
            assert old.held is not None
            old.held[0](Response(200, b"old, at last"))
            assert (await asked).text == "old, at last"
            assert await leaving == 0
            assert (await busy.get(INFER.format("flights"))).text == "new"
            assert (old.connections, new.connections) == (0, 2)
            await old.stop()
            await until(lambda: len(world.doors[0].standing()["replicas"]) == 1)
            assert world.doors[0].standing()["lost"] == {}

    run(test)


def test_a_replica_that_leaves_waits_for_a_door_that_is_busy(run: Run) -> None:
    async def test(world: World) -> None:
        old, door = await world.replica("old"), world.doors[0]
        clients = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(20)]
        assert [await _ask(*client) for client in clients] == [b"old"] * 20
        hands = old.doorway._hands
        assert hands is not None
        hands.channel._peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        busy, loop = door._hands["old"].channel, asyncio.get_running_loop()
        loop.remove_reader(busy._peer.fileno())
        leaving = asyncio.create_task(old.doorway.leave(10.0))
        await until(lambda: old.connections == 0)
        assert len(hands.channel._waiting) > 1  # beyond what the kernel has room for
        loop.add_reader(busy._peer.fileno(), busy._read)
        assert await leaving == 0
        await old.stop()
        await world.replica("new")
        assert [await _ask(*client) for client in clients] == [b"new"] * 20
        for _, writer in clients:
            writer.close()

    run(test)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The name of the replica that answers, of three letters."""
    writer.write(b"GET /v2/models/flights HTTP/1.1\r\nHost: here\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(3)


def test_what_its_door_does_not_take_of_a_replica_that_leaves_is_counted(run: Run) -> None:
    async def test(world: World) -> None:
        old = await world.replica("old")
        async with world.client() as client:
            await client.get(INFER.format("flights"))
            world.doors[0]._hands["old"].channel.listen_to(lambda _: None, lambda: None)
            assert await old.doorway.leave(0.05) == 1

    run(test)
