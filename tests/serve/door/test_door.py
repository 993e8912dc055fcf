"""A door and its replicas over real sockets, in one process; clients notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from raymlops.errors import ClusterError, ConfigError
from raymlops.serve.door import Doorway
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.door.waiting import Visitor
from raymlops.serve.http import HttpLimits
from raymlops.serve.web import Response
from tests.serve.coroutines import until
from tests.serve.door.conftest import make_certificate
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
        hands.channel._on_lost = lambda: None  # it has not been noticed yet
        one.doorway._reported = (-1, -1)
        for _ in range(3):
            await asyncio.sleep(0.05)
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


def test_tls_ends_at_the_door_and_plain_connections_are_refused(
    certificate: tuple[Path, Path], run: Run
) -> None:
    async def test(world: World) -> None:
        world.doors.pop().close()
        del world.port
        tls = TlsFiles(certificate=certificate[0], key=certificate[1])
        await world.open(tls)
        await world.replica("one", "flights")
        await world.replica("two", "trains")
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        url = f"https://127.0.0.1:{world.port}"
        async with httpx.AsyncClient(base_url=url, verify=trusted, trust_env=False) as client:
            for model, wanted in (("flights", "one"), ("trains", "two"), ("flights", "one")):
                answer = await client.post(INFER.format(model), content=b"!" * 1_000_000)
                assert answer.text == wanted + "!" * 1_000_000
        async with world.client() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(INFER.format("flights"))

    run(test)


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_told(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the cluster was started anew, clients were shown the one that had run out."""
    certificate, key = make_certificate(tmp_path)
    first = certificate.read_bytes()

    async def test(world: World) -> None:
        world.doors.pop().close()
        del world.port
        door = await world.open(TlsFiles(certificate=certificate, key=key))
        await world.replica("one", "flights")
        url = f"https://127.0.0.1:{world.port}"

        async def shown() -> bytes:
            host = ("127.0.0.1", world.port)
            return (await asyncio.to_thread(ssl.get_server_certificate, host)).encode()

        trusted = ssl.create_default_context(cafile=str(certificate))
        async with httpx.AsyncClient(base_url=url, verify=trusted, trust_env=False) as client:
            assert (await client.get(INFER.format("flights"))).text == "one"
            assert await shown() == first
            certificate.write_bytes(first[:200])
            await until(lambda: door.standing()["problem"] is not None)
            assert await shown() == first
            told = "the certificate of before is used, the new one cannot be: TLS with certificate"
            assert door.standing()["problem"].startswith(f"{told} {certificate}")
            make_certificate(tmp_path)
            await until(lambda: door.standing()["problem"] is None)
            assert await shown() == certificate.read_bytes() != first
            assert (await client.get(INFER.format("flights"))).text == "one"  # as it began

    run(test)
    assert "the certificate of before is used, the new one cannot be" in caplog.text


def test_a_door_that_is_back_waits_for_files_that_fit(
    tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """One that died while the files were broken never came back, also when they were mended."""
    certificate, key = make_certificate(tmp_path)
    tls = TlsFiles(certificate=certificate, key=key)

    async def test(world: World) -> None:
        world.doors.pop().close()
        del world.port
        first = await world.open(tls)
        one = await world.replica("one", "flights")
        certificate.write_bytes(b"")
        first.close()
        world.doors.remove(first)
        back = await world.open(tls)
        told = f"nobody is let in until the files fit: TLS with certificate {certificate}"
        assert back.standing()["problem"].startswith(told)
        with pytest.raises(ConfigError, match="nobody is let in"):
            back.card("127.0.0.1", "elsewhere")
        await until(lambda: one.doorway._held != {})
        url = f"https://127.0.0.1:{world.port}"
        async with httpx.AsyncClient(base_url=url, verify=False, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(INFER.format("flights"))
            make_certificate(tmp_path)
            await until(lambda: back.standing()["problem"] is None)
            await until(lambda: back.standing()["replicas"] != [])
            assert (await client.get(INFER.format("flights"))).text == "one"
            assert back.card("127.0.0.1", "elsewhere").entrance.certificate

    run(test)
    assert "nobody is let in until the files fit" in caplog.text


def test_tls_files_that_do_not_fit_are_refused(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"TLS with certificate .*: "):
        TlsFiles(certificate=certificate[1], key=certificate[0]).context()
