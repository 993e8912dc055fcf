"""A door and its replicas over real sockets, in one process; clients notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from raymlops.errors import ClusterError
from raymlops.serve.door import Doorway
from raymlops.serve.http import HttpLimits
from tests.serve.coroutines import until
from tests.serve.door.world import INFER, Run, World


def test_connections_go_to_the_replicas_in_equal_parts(run: Run) -> None:
    async def test(world: World) -> None:
        one, other = await world.replica("one"), await world.replica("other")
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(world.client()) for _ in range(10)]
            for client in clients:
                answer = await client.post(INFER.format("flights"), content=b"!" * 100_000)
                assert answer.text in ("one" + "!" * 100_000, "other" + "!" * 100_000)
            assert (one.connections, other.connections) == (5, 5)

    run(test)


def test_a_connection_on_its_way_is_counted_whenever_its_replica_reports(run: Run) -> None:
    async def test(world: World) -> None:
        replicas = [await world.replica("one"), await world.replica("other")]
        _report_while_taking(replicas[1].doorway)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                client = await stack.enter_async_context(world.client())
                await client.get(INFER.format("flights"))
            assert [replica.connections for replica in replicas] == [5, 5]

    run(test)


def _report_while_taking(doorway: Doorway) -> None:
    """At the worst moment alone: a connection was heard of, and is not among the server's yet."""
    adopt, report = doorway.server.adopt, doorway._report

    async def adopt_late(connection: socket.socket, read: bytes = b"") -> None:
        report()
        await asyncio.sleep(0.01)
        await adopt(connection, read)

    doorway._report = lambda: None  # type: ignore[method-assign]
    doorway.server.adopt = adopt_late  # type: ignore[method-assign]


def test_each_model_is_answered_by_its_own_over_one_connection(run: Run) -> None:
    async def test(world: World) -> None:
        await world.replica("one", "flights")
        await world.replica("two", "trains")
        async with world.client() as client:
            for _ in range(3):
                for model, wanted in (("flights", "one"), ("trains", "two")):
                    large = b"." * 3_000_000
                    answer = await client.post(INFER.format(model), content=large)
                    assert answer.text == wanted + large.decode()
                assert (await client.get("/v2/health/ready")).text == "the door: flights,trains"
            assert (await client.get("/v2/models/boats")).status_code == 404

    run(test)


def test_a_replica_of_several_models_answers_for_each_and_for_no_other(run: Run) -> None:
    async def test(world: World) -> None:
        both = await world.replica("both", "flights", "trains")
        await world.replica("third", "boats")
        async with world.client() as client:
            for model, wanted in (("flights", "both"), ("boats", "third"), ("trains", "both")):
                assert (await client.post(INFER.format(model), content=b"?")).text == wanted + "?"
            for path in ("/v2", "/v2/models/cars", "/v2/health/ready"):
                answer = await client.get(path)
                assert answer.text == "the door: boats,flights,trains"
            assert (await client.get(INFER.format("trains"))).text == "both"
            leaving = asyncio.create_task(both.doorway.leave(10.0))
            await world.replica("next", "flights", "trains")
            assert (await client.get(INFER.format("trains"))).text == "next"
            assert await leaving == 0

    run(test)


@pytest.mark.parametrize(
    ("models", "sent", "wanted"),
    [
        (("flights",), b"GET  /v2/health/live HTTP/1.1\r\n", b"the door: flights"),
        (("flights",), b"GET HTTP://here/v2/health/live HTTP/1.1\r\n", b"the door: flights"),
        (("flights", "trains"), b"GET  /v2/models/flights HTTP/1.1\r\n", b"flights"),
        (("flights", "trains"), b"GET HTTP://here/v2/models/flights HTTP/1.1\r\n", b"flights"),
    ],
)
def test_a_path_that_llhttp_alone_can_read_goes_round_in_no_circle(
    run: Run, models: tuple[str, ...], sent: bytes, wanted: bytes
) -> None:
    async def test(world: World) -> None:
        for model in models:
            await world.replica(model, model)
        assert await _answer(world, sent) == wanted

    run(test)


def test_what_a_replica_of_several_returns_goes_round_in_no_circle(run: Run) -> None:
    async def test(world: World) -> None:
        await world.replica("both", "flights", "trains")
        world.doors[0].forget("trains")  # so that all but health is for flights, and its replicas
        assert await _answer(world, b"GET /v2 HTTP/1.1\r\n") == b"the door: flights"

    run(test)


async def _answer(world: World, sent: bytes) -> bytes:
    """The body of the answer to the first line of a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(sent + b"Host: here\r\nConnection: close\r\n\r\n")
    try:
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()


def test_a_door_that_dies_comes_back_to_the_same_port_and_nobody_fails(run: Run) -> None:
    async def test(world: World) -> None:
        one = await world.replica("one")
        async with world.client() as before, world.client() as during, world.client() as after:
            assert (await before.get(INFER.format("flights"))).text == "one"
            world.doors.pop().close()
            await until(lambda: one.doorway._hands is None)
            asked = asyncio.create_task(during.get(INFER.format("flights")))
            assert (await before.get(INFER.format("flights"))).text == "one"
            door = await world.open()
            assert (await asked).text == "one"
            assert (await after.get(INFER.format("flights"))).text == "one"
            await until(lambda: door.standing()["replicas"][0]["connections"] == 3)

    run(test)


def test_a_replica_that_reports_to_a_door_that_has_just_died_lives_on(run: Run) -> None:
    async def test(world: World) -> None:
        one = await world.replica("one")
        hands = one.doorway._hands
        assert hands is not None
        world.doors.pop().close()
        # It has not been noticed yet, and is by the report that does not arrive.
        asyncio.get_running_loop().remove_reader(hands.channel._peer.fileno())
        one.doorway._reported = (-1, -1)
        await until(lambda: not hands.channel.is_open)
        assert not one.task.done()

    run(test)


def test_a_port_that_something_else_has_is_refused_with_a_way_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.door.door._RETURN_S", 0.25)

    async def test(world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ClusterError, match=rf":{port} cannot be .* serve\.port to another"):
                await world.doors[0].listen("127.0.0.1", port)
        assert await world.doors[0].listen("127.0.0.1", 0) == ("127.0.0.1", world.port)

    run(test)


def test_beyond_the_connections_of_all_replicas_clients_are_told_when_to_come_again(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """They were cut without a word, which looked like a crash, and came again at once."""

    async def test(world: World) -> None:
        one = await world.replica("one", limits=HttpLimits(max_connections=2))
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(world.client()) for _ in range(4)]
            answers = [await client.get(INFER.format("flights")) for client in clients]
            assert [answer.status_code for answer in answers] == [200, 200, 503, 503]
            assert answers[2].headers["retry-after"] == "1"
            assert answers[2].headers["connection"] == "close"
            await clients[0].aclose()
            await until(lambda: one.connections == 1)
            await until(lambda: not world.doors[0]._roster.is_full("flights"))
            assert (await clients[3].get(INFER.format("flights"))).text == "one"

    run(test)
    assert sum("have all connections that they take" in text for text in caplog.messages) == 1
