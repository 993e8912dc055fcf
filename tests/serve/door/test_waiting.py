"""Clients that wait for a replica, and are waited for."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from raymlops.serve.door.waiting import Visitor
from tests.serve.coroutines import until
from tests.serve.door.world import INFER, Run, World


def test_clients_of_each_model_wait_for_the_replica_of_several(run: Run) -> None:
    async def test(world: World) -> None:
        door = world.doors[0]
        door.expect("flights")
        door.expect("trains")
        async with world.client() as one, world.client() as other:
            asked = [
                asyncio.create_task(client.get(INFER.format(model)))
                for client, model in ((one, "flights"), (other, "trains"))
            ]
            await until(lambda: door.standing()["waiting"] == 2)
            both = await world.replica("both", "flights", "trains")
            assert [(await each).text for each in asked] == ["both", "both"]
            await both.stop()
            await until(lambda: door.standing()["lost"] == {"flights": 1, "trains": 1})

    run(test)


def test_clients_wait_for_a_model_whose_only_replica_died(run: Run) -> None:
    async def test(world: World) -> None:
        old = await world.replica("old")
        await old.stop()
        await until(lambda: world.doors[0].standing()["lost"] == {"flights": 1})
        async with world.client() as client:
            asked = asyncio.create_task(client.post(INFER.format("flights"), content=b"?"))
            await until(lambda: world.doors[0].standing()["waiting"] == 1)
            await world.replica("new")
            assert (await asked).text == "new?"

    run(test)


def test_nobody_waits_for_ever(run: Run) -> None:
    async def test(world: World) -> None:
        door = world.doors[0]
        door.expect("flights")
        with (
            socket.create_connection(("127.0.0.1", world.port)) as silent,
            socket.create_connection(("127.0.0.1", world.port)) as slow,
        ):
            slow.sendall(b"POST /v2/mod")
            async with world.client() as client:
                asked = asyncio.create_task(client.get(INFER.format("flights")))
                await until(lambda: door._waiting._unserved and len(door._waiting) == 3)
                door._waiting._patience_s = 0.0
                answer = await asked
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.headers["connection"] == "close"
            for connection in (silent, slow):
                connection.settimeout(60.0)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.to_thread(connection.recv, 1) == b""

    run(test)


def test_half_a_request_line_of_who_has_gone_is_not_looked_at_for_ever(run: Run) -> None:
    async def test(world: World) -> None:
        door = world.doors[0]
        client = socket.create_connection(("127.0.0.1", world.port))
        client.sendall(b"GET /v2/mod")
        await until(lambda: len(door._waiting) == 1)
        client.close()
        await until(lambda: len(door._waiting) == 0)

    run(test)


def test_half_a_request_line_is_not_looked_at_all_the_time(run: Run) -> None:
    async def test(world: World) -> None:
        await world.replica("one")
        door, looks = world.doors[0], 0

        def count(visitor: Visitor) -> None:
            nonlocal looks
            looks += 1
            look(visitor)

        look, door._reception._look = door._reception._look, count  # type: ignore[method-assign]
        client, ours = socket.socketpair()  # as with TLS, where there is no low-water mark
        for end in (client, ours):
            end.setblocking(False)
        client.sendall(b"GET /v2/mod")
        door._reception.welcome(ours)
        for _ in range(200):
            await asyncio.sleep(0)
        assert looks < 20
        client.sendall(b"els/flights HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = await asyncio.get_running_loop().sock_recv(client, 4096)
        assert answer.endswith(b"one")
        client.close()

    run(test)


def test_a_model_that_is_forgotten_is_waited_for_no_more(run: Run) -> None:
    async def test(world: World) -> None:
        door = world.doors[0]
        door.expect("flights")
        async with world.client() as client:
            asked = asyncio.create_task(client.get(INFER.format("flights")))
            await until(lambda: door.standing()["waiting"] == 1)
            door.forget("flights")
            assert (await asked).status_code == 404

    run(test)
