"""A connection on its way between two processes outlives either of them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest

from raymlops.serve.door.handing import Hands
from raymlops.serve.door.wire import Channel, Message
from raymlops.serve.http import Strayed
from tests.serve.coroutines import until
from tests.serve.door.world import INFER, Run, World


class Peer:
    """The other end of a channel, which does only what it is told to, and then dies."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self._end = end

    @classmethod
    def behind(cls, path: Path) -> Peer:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.connect(str(path))
        return cls(end)

    def say(self, kind: str, **values: Any) -> None:
        self._end.send(orjson.dumps({"kind": kind, **values}))

    def hear(self) -> tuple[str, list[int]]:
        packet, descriptors, _, _ = socket.recv_fds(self._end, 65536, 8)
        return orjson.loads(packet)["kind"], descriptors

    def take(self) -> socket.socket:
        kind, (connection, *read) = self.hear()
        assert kind == "given"
        for descriptor in read:
            os.close(descriptor)
        self.say("taken")
        return socket.socket(fileno=connection)

    def give(self, connection: socket.socket) -> None:
        socket.send_fds(self._end, [b'{"kind":"given"}'], [connection.fileno()])
        connection.close()

    def die(self) -> None:
        self._end.close()


Holding = Callable[[Callable[[Hands, Peer, list[str]], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def holding() -> Holding:
    """Runs a test with one pair of hands, who is at the other end, and what the hands are told."""

    def run(test: Callable[[Hands, Peer, list[str]], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            told: list[str] = []
            channel = Channel(near, lambda _: hands.settle(), lambda: told.append("lost"))
            hands, peer = Hands(channel), Peer(far)
            try:
                await asyncio.wait_for(test(hands, peer, told), 20.0)
            finally:
                peer.die()
                hands.close()

        asyncio.run(whole())

    return run


def _give(hands: Hands, said: bytes, strayed: Strayed | None = None) -> socket.socket:
    """Gives a connection whose client has said something; returns the client."""
    client, server = socket.socketpair()
    client.settimeout(5.0)
    client.sendall(said)
    hands.give(server.fileno(), strayed)
    server.close()
    return client


@pytest.mark.parametrize("said", [{}, {"path_bytes": 5}])
def test_a_connection_that_no_descriptor_was_left_for_ends(said: dict[str, Any]) -> None:
    """The kernel drops what the receiver has no room for. It was an error in the replica's log, a
    client that waited for ever, and one connection more that the door believed the replica had."""

    async def test() -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        messages: list[Message] = []
        hands = Hands(Channel(near, messages.append, lambda: None))
        peer = Peer(far)
        peer.say("given", **said)
        await until(lambda: bool(messages))
        assert hands.take(messages[0]) is None
        assert peer.hear() == ("taken", [])
        peer.die()
        hands.close()

    asyncio.run(test())


@pytest.mark.parametrize("notices_by", ["reading", "sending"])
def test_what_was_not_taken_is_left_as_it_was_given(holding: Holding, notices_by: str) -> None:
    async def test(hands: Hands, peer: Peer, told: list[str]) -> None:
        strayed = Strayed("/path", b"read")
        clients = [_give(hands, b"ask %d" % number, strayed) for number in range(3)]
        taken = peer.take()
        peer.die()
        if notices_by == "sending":
            with taken.dup() as late, pytest.raises(ConnectionError):
                hands.give(late.fileno(), None)
        await until(lambda: told == ["lost"])
        left = hands.left()
        assert [each for _, each in left] == [strayed, strayed]
        assert [connection.recv(100) for connection, _ in left] == [b"ask 1", b"ask 2"]
        assert taken.recv(100) == b"ask 0"
        taken.close()
        assert clients[0].recv(1) == b""  # it was the other end's alone
        for each in (*clients, *(connection for connection, _ in left)):
            each.close()

    holding(test)


def test_what_was_taken_is_open_here_no_more(holding: Holding) -> None:
    async def test(hands: Hands, peer: Peer, told: list[str]) -> None:
        client = _give(hands, b"ask")
        connection = peer.take()
        assert connection.recv(100) == b"ask"
        connection.close()
        assert await asyncio.to_thread(client.recv, 1) == b""
        client.close()
        assert told == []
        assert hands.left() == []

    holding(test)


def test_who_leaves_waits_until_all_it_gave_is_taken(holding: Holding) -> None:
    async def test(hands: Hands, peer: Peer, told: list[str]) -> None:
        assert await hands.untaken(5.0) == 0
        clients = [_give(hands, b"ask") for _ in range(2)]
        taken = [peer.take()]
        assert await hands.untaken(0.05) == 1
        waiting = asyncio.create_task(hands.untaken(5.0))
        taken.append(peer.take())
        assert await waiting == 0
        for each in (*clients, *taken):
            each.close()

    holding(test)


def test_a_client_given_to_a_dying_replica_goes_on_to_the_next(run: Run) -> None:
    async def test(world: World) -> None:
        dying = Peer.behind(world.path)
        dying.say("enter", replica="dying", models=["flights"], open=0)
        await until(lambda: len(world.doors[0].standing()["replicas"]) == 1)
        async with world.client() as client:
            asked = asyncio.create_task(client.post(INFER.format("flights"), content=b"?"))
            await until(lambda: world.doors[0].standing()["replicas"][0]["connections"] == 1)
            dying.die()
            await until(lambda: world.doors[0].standing()["waiting"] == 1)
            await world.replica("living")
            assert (await asked).text == "living?"

    run(test)


def test_clients_that_a_dying_replica_returned_go_on_to_the_next(run: Run) -> None:
    async def test(world: World) -> None:
        dying, living = Peer.behind(world.path), await world.replica("living")
        dying.say("enter", replica="dying", models=["flights"], open=0)
        pairs = [socket.socketpair() for _ in range(100)]
        for _, far in pairs:
            dying.give(far)
        dying.die()
        for near, _ in pairs:
            near.setblocking(False)
            near.sendall(b"GET /v2/models/flights HTTP/1.1\r\nhost: here\r\n\r\n")
            answer = await asyncio.get_running_loop().sock_recv(near, 4096)
            assert answer.endswith(b"living")
            near.close()
        await until(lambda: living.connections == 0)

    run(test)


def test_a_client_returned_to_a_dying_door_stays(run: Run) -> None:
    async def test(world: World) -> None:
        world.doors.pop().close()
        dying = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dying.bind(str(world.path))
        dying.listen()
        replica = world.add("one")
        accepted, _ = await asyncio.to_thread(dying.accept)
        door = Peer(accepted)
        assert door.hear()[0] == "enter"
        near, far = socket.socketpair()
        door.give(far)
        await until(lambda: replica.connections == 1)
        door.say("keep", number=0)
        await until(lambda: replica.connections == 0)
        door.die()
        dying.close()
        near.setblocking(False)
        near.sendall(b"GET /v2/models/flights HTTP/1.1\r\nhost: here\r\n\r\n")
        answer = await asyncio.get_running_loop().sock_recv(near, 4096)
        near.close()
        assert answer.endswith(b"one")

    run(test)


def test_the_end_is_told_once(holding: Holding) -> None:
    async def test(hands: Hands, peer: Peer, told: list[str]) -> None:
        peer.die()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                hands.channel.send("hold")
        assert told == []
        await until(lambda: told == ["lost"])
        await asyncio.sleep(0)
        assert told == ["lost"]

    holding(test)
