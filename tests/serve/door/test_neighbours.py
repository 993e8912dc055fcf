"""Doors of several nodes are one address: what one node has not, another has."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from raymlops.serve.door.neighbours import Card
from raymlops.serve.door.relay import new_secret
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.web import Response
from tests.serve.coroutines import until
from tests.serve.door.world import INFER, World, opened

FLIGHTS = INFER.format("flights")

Nodes = Callable[[Callable[[World, World], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    """Runs a test on two nodes: the one that clients connect to, and another."""
    return lambda test: _on_two(test, tmp_path)


def _on_two(
    test: Callable[[World, World], Coroutine[Any, Any, None]],
    folder: Path,
    tls: TlsFiles | None = None,
) -> None:
    async def whole() -> None:
        async with opened(folder / "here", tls) as here, opened(folder / "far", tls) as far:
            await asyncio.wait_for(test(here, far), 20.0)

    asyncio.run(whole())


def introduce(here: World, *others: World) -> None:
    """What their lookouts do every second."""
    named = dict(zip(("here", "far", "third"), (here, *others), strict=False))
    for name, world in named.items():
        for other, neighbour in named.items():
            if neighbour is not world:
                door = world.doors[0]
                door.ask(other)
                door.meet(other, card(neighbour, name), own_node=name)


async def until_among(worlds: Sequence[World], check: Callable[[], bool]) -> None:
    """Returns once `check` holds among nodes that keep themselves informed."""

    def look() -> bool:
        introduce(*worlds)
        return check()

    await until(look)


def card(of: World, asker: str) -> Card:
    return of.doors[0].card("127.0.0.1", asker)


def test_a_model_of_another_node_is_reached_by_every_door(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        await here.replica("one", "trains")
        await far.replica("two", "flights")
        introduce(here, far)
        async with here.client() as client:
            for body in (b"", b"." * 3_000_000, b"?"):
                assert (await client.post(FLIGHTS, content=body)).content == b"two" + body
            assert here.doors[0].standing()["relays"] == 1
        await until(lambda: here.doors[0].standing()["relays"] == 0)
        async with here.client() as client:
            for model, wanted in (("trains", "one"), ("flights", "two"), ("trains", "one")):
                assert (await client.get(INFER.format(model))).text == wanted
            assert (await client.get("/v2/models/boats")).text == "the door: flights,trains"

    nodes(test)


def test_requests_that_follow_each_other_at_once_are_answered_in_order(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        await far.replica("far")
        introduce(here, far)
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        request = f"POST {FLIGHTS} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
        sent = b"".join(request.encode() + b"%03d" % number for number in range(200))
        writer.write(sent)
        for number in range(200):
            assert (await reader.readuntil(b"far%03d" % number)).startswith(b"HTTP/1.1 200")
        writer.close()

    nodes(test)


def test_what_goes_to_another_node_is_encrypted_by_its_certificate(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    tls = TlsFiles(certificate=certificate[0], key=certificate[1])

    async def test(here: World, far: World) -> None:
        await far.replica("far")
        introduce(here, far)
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        url = f"https://127.0.0.1:{here.port}"
        async with httpx.AsyncClient(base_url=url, verify=trusted, trust_env=False) as client:
            for body in (b"", b"!" * 1_000_000):
                assert (await client.post(FLIGHTS, content=body)).content == b"far" + body
        with socket.create_connection(
            (url[8:].split(":")[0], card(far, "here").entrance.port)
        ) as plain:
            plain.settimeout(5.0)
            plain.sendall(card(far, "here").entrance.secret)
            assert b"\x06" not in await asyncio.to_thread(_rest, plain)

    _on_two(test, tmp_path, tls)


def _rest(connection: socket.socket) -> bytes:
    """What comes until the end."""
    with contextlib.suppress(ConnectionError):
        return b"".join(iter(lambda: connection.recv(4096), b""))
    return b""


@pytest.mark.parametrize(
    "said",
    [f"GET {FLIGHTS} HTTP/1.1\r\n\r\n".encode(), new_secret()],
    ids=["a client", "another secret"],
)
def test_nobody_but_a_door_comes_in_by_an_entrance(nodes: Nodes, said: bytes) -> None:
    async def test(here: World, far: World) -> None:
        await far.replica("far")
        with socket.create_connection(("127.0.0.1", card(far, "here").entrance.port)) as stranger:
            stranger.settimeout(5.0)
            stranger.sendall(said)
            assert await asyncio.to_thread(_rest, stranger) == b""
        assert far.replicas[0].doorway.server.num_accepted == 0

    nodes(test)


def test_connections_are_even_over_all_nodes_and_near_ones_come_first(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        one, two = await here.replica("one"), await far.replica("two")
        three = await far.replica("three")
        introduce(here, far)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(12):
                client = await stack.enter_async_context(here.client())
                answer = (await client.get(FLIGHTS)).text
                assert number > 0 or answer == "one"
            assert (one.connections, two.connections, three.connections) == (4, 4, 4)

    nodes(test)


def test_a_new_node_is_given_connections_and_does_not_give_them_back(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        one = await here.replica("one")
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(here.client()) for _ in range(8)]
            for client in clients:
                await client.get(FLIGHTS)
            two = await far.replica("two")
            await until_among((here, far), lambda: (one.connections, two.connections) == (4, 4))
            answers = {client: (await client.get(FLIGHTS)).text for client in clients}
            for client, answer in answers.items():
                if answer == "one":
                    await client.aclose()
            await until(lambda: one.connections == 0)
            accepted = two.doorway.server.num_accepted
            for _ in range(3):
                introduce(here, far)
                await asyncio.sleep(0.3)  # a tick of the doors
            assert (two.connections, two.doorway.server.num_accepted) == (4, accepted)

    nodes(test)


def test_a_third_node_is_given_what_came_to_the_second_from_the_first(
    nodes: Nodes, tmp_path: Path
) -> None:
    async def test(here: World, far: World) -> None:
        two = await far.replica("two")
        introduce(here, far)
        async with opened(tmp_path / "third") as third, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(here.client()) for _ in range(8)]
            for client in clients:
                await client.get(FLIGHTS)
            introduce(here, far)  # the second knows that all came from the first
            three = await third.replica("three")
            await until_among(
                (here, far, third), lambda: (two.connections, three.connections) == (4, 4)
            )
            answers = [(await client.get(FLIGHTS)).text for client in clients]
            assert sorted(answers) == ["three"] * 4 + ["two"] * 4
            assert third.doors[0].standing()["relays"] == 0

    nodes(test)


def test_clients_wait_until_some_node_has_a_replica(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        here.doors[0].expect("flights")
        async with here.client() as client:
            asked = asyncio.create_task(client.post(FLIGHTS, content=b"?"))
            await until(lambda: here.doors[0].standing()["waiting"] == 1)
            introduce(here, far)
            assert not asked.done()
            await far.replica("far")
            introduce(here, far)
            assert (await asked).text == "far?"

    nodes(test)


def test_a_node_that_is_lost_costs_what_is_in_flight_and_nothing_else(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        lost = await far.replica("far")
        introduce(here, far)
        async with here.client() as first, here.client() as second:
            lost.held = []
            asked = asyncio.create_task(first.get(FLIGHTS))
            await until(lambda: bool(lost.held))
            far.doors.pop().close()
            lost.doorway.close()
            with pytest.raises(httpx.TransportError):
                await asked
            asked = asyncio.create_task(second.get(FLIGHTS))
            await until(lambda: here.doors[0].standing()["waiting"] == 1)
            await here.replica("near")
            assert (await asked).text == (await first.get(FLIGHTS)).text == "near"

    nodes(test)


def test_nobody_waits_at_the_door_of_a_node_whose_replica_has_died(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        await far.replica("far")
        introduce(here, far)
        await far.replicas.pop().stop()
        await until(lambda: not far.doors[0].standing()["replicas"])
        async with here.client() as client:
            asked = asyncio.create_task(client.get(FLIGHTS))
            await until(lambda: here.doors[0].standing()["waiting"] == 1)
            assert far.doors[0].standing()["waiting"] == 0
            await far.replica("again")
            introduce(here, far)
            assert (await asked).text == "again"

    nodes(test)


def test_a_door_that_cannot_be_reached_is_left_alone_for_a_while(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(here: World, far: World) -> None:
        await here.replica("near")
        await far.replica("far")
        door = here.doors[0]
        found = card(far, "here")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        elsewhere = replace(found, entrance=replace(found.entrance, port=port))
        async with here.client() as first, here.client() as second:
            await first.get(FLIGHTS)
            for _ in range(3):
                door.meet("far", elsewhere, own_node="here")
                assert (await second.get(FLIGHTS)).text == "near"
        assert caplog.text.count(f"cannot be reached at 127.0.0.1:{port}") == 1

    nodes(test)


def test_a_model_that_is_undeployed_everywhere_is_forgotten(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        await far.replica("far")
        introduce(here, far)
        await far.replicas.pop().stop()
        for door in (far.doors[0], here.doors[0]):
            door.forget("flights")
        async with here.client() as client:
            assert (await client.get(FLIGHTS)).status_code == 404
            introduce(here, far)
            assert (await client.get(FLIGHTS)).status_code == 404

    nodes(test)


def test_a_reply_that_is_not_read_does_not_fill_memory(nodes: Nodes) -> None:
    async def test(here: World, far: World) -> None:
        replica = await far.replica("far")
        introduce(here, far)
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        replica.held = []
        writer.write(f"GET {FLIGHTS} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        await until(lambda: bool(replica.held))
        replica.held[0](Response(200, b"." * 50_000_000))
        await asyncio.sleep(0.2)
        (connection,) = replica.doorway.server.connections
        assert connection._transport.get_write_buffer_size() > 30_000_000  # not on the way
        writer.close()

    nodes(test)
