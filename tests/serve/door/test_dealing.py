"""Connections are dealt as the model is routed, by a door and replicas over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from raymlops.serve.door.tls import TlsFiles
from tests.serve.coroutines import until
from tests.serve.door.test_neighbours import introduce
from tests.serve.door.world import INFER, Run, World, opened

FLIGHTS = INFER.format("flights")
CLOSE = "Connection: close\r\n\r\n"
SESSIONS = [f"session-{number}" for number in range(12)]


async def ask(world: World, session: str | None = None) -> str:
    """Who answers over a new connection."""
    told = "" if session is None else f"X-Session-Id: {session}\r\n"
    return await say(world, f"GET {FLIGHTS} HTTP/1.1\r\nHost: here\r\n{told}", CLOSE)


async def say(world: World, *parts: str) -> str:
    """The body of the answer to a request that comes in parts, the last of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    for part in parts:
        writer.write(part.encode())
        await asyncio.sleep(0.001)
    told = await reader.read()
    writer.close()
    return told.decode().partition("\r\n\r\n")[2]


async def answers(world: World) -> dict[str, str]:
    """By session, who answers it."""
    return {session: await ask(world, session) for session in SESSIONS}


def test_replicas_get_connections_by_what_they_can_do(run: Run) -> None:
    async def test(world: World) -> None:
        fast = await world.replica("fast", routing="weighted_round_robin", rows_per_s=3000.0)
        slow = await world.replica("slow", routing="weighted_round_robin", rows_per_s=1000.0)
        door = world.doors[0]
        await until(lambda: all("rows_per_s" in each for each in door.standing()["replicas"]))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(16):
                client = await stack.enter_async_context(world.client())
                await client.get(FLIGHTS)
            door._tick()
            await asyncio.sleep(0.05)
            assert (fast.connections, slow.connections) == (12, 4)

    run(test)


def test_a_session_goes_to_its_replica_over_any_connection(run: Run) -> None:
    async def test(world: World) -> None:
        for name in ("one", "other", "third"):
            await world.replica(name, routing="consistent_hash")
        before = await answers(world)
        assert set(before.values()) == {"one", "other", "third"}
        assert await answers(world) == before
        assert len({await ask(world) for _ in range(6)}) == 1  # all have this machine's address

    run(test)


def test_a_client_without_a_session_is_known_by_its_address_also_over_tls(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    tls = TlsFiles(certificate=certificate[0], key=certificate[1])
    trusted = ssl.create_default_context(cafile=str(certificate[0]))

    async def whole() -> None:
        async with opened(tmp_path / "door", tls) as world:
            replicas = {
                name: await world.replica(name, routing="consistent_hash")
                for name in ("one", "other", "third")
            }
            url = f"https://127.0.0.1:{world.port}"
            async with contextlib.AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(
                        httpx.AsyncClient(base_url=url, verify=trusted, trust_env=False)
                    )
                    for _ in range(6)
                ]
                for _ in range(2):
                    (name,) = {(await client.get(FLIGHTS)).text for client in clients}
                    leaving = replicas.pop(name)
                    assert leaving.connections == 6
                    await leaving.doorway.leave(10.0)
                    await leaving.stop()

    asyncio.run(asyncio.wait_for(whole(), 20.0))


def test_a_session_is_told_by_the_whole_head_however_it_comes(run: Run) -> None:
    async def test(world: World) -> None:
        for name in ("one", "other", "third"):
            await world.replica(name, routing="consistent_hash")
        for session, wanted in (await answers(world)).items():
            head = f"GET {FLIGHTS} HTTP/1.1\r\nHost: here\r\nX-Session-Id: {session}\r\n"
            assert await say(world, head[:-4], head[-4:], CLOSE) == wanted

    run(test)


def test_what_is_not_http_is_refused_at_once_where_sessions_are_kept(run: Run) -> None:
    async def test(world: World) -> None:
        await world.replica("one", routing="consistent_hash")
        assert "this is not HTTP/1.1" in await say(world, "hello\r\n")

    run(test)


def test_a_connection_whose_replica_leaves_goes_on_by_its_next_request(run: Run) -> None:
    async def test(world: World) -> None:
        replicas = {
            name: await world.replica(name, routing="consistent_hash")
            for name in ("one", "other", "third")
        }
        before = await answers(world)
        async with contextlib.AsyncExitStack() as stack:
            clients = {s: await stack.enter_async_context(world.client()) for s in SESSIONS}
            for session, client in clients.items():
                await client.get(FLIGHTS, headers={"x-session-id": session})
            leaving = replicas.pop("one")
            assert await leaving.doorway.leave(10.0) == 0
            await leaving.stop()
            after = await answers(world)
            for session, client in clients.items():
                answer = await client.get(FLIGHTS, headers={"x-session-id": session})
                assert answer.text == after[session]
        stayed = {session for session in SESSIONS if before[session] != "one"}
        assert all(after[session] == before[session] for session in stayed)

    run(test)


def test_a_model_of_several_is_asked_for_over_a_connection_of_a_session(run: Run) -> None:
    async def test(world: World) -> None:
        await world.replica("flights", "flights", routing="consistent_hash")
        for name in ("one", "other"):
            await world.replica(name, "trains", routing="consistent_hash")
        async with world.client() as client:
            for session in SESSIONS:
                told = {"x-session-id": session}
                assert (await client.get(FLIGHTS, headers=told)).text == "flights"
                moved = (await client.get(INFER.format("trains"), headers=told)).text
                async with world.client() as another:
                    answer = await another.get(INFER.format("trains"), headers=told)
                assert answer.text == moved

    run(test)


def test_a_deployment_with_another_routing_is_followed(run: Run) -> None:
    async def test(world: World) -> None:
        old = await world.replica("old", routing="consistent_hash")
        for name in ("one", "other"):
            await world.replica(name, routing="round_robin")
        await old.doorway.leave(10.0)
        await old.stop()
        await until(lambda: len(world.doors[0].standing()["replicas"]) == 2)
        told = [await ask(world, "anna") for _ in range(4)]
        assert sorted(told[:2]) == ["one", "other"]
        assert told[2:] == told[:2]

    run(test)


def test_who_waits_for_a_replica_is_given_by_session_once_there_are_some(run: Run) -> None:
    async def test(world: World) -> None:
        door = world.doors[0]
        door.expect("flights")
        asked = asyncio.create_task(ask(world, "anna"))
        await until(lambda: door.standing()["waiting"] == 1)
        await world.replica("one", routing="consistent_hash")
        assert await asked == "one"

    run(test)


def test_a_session_goes_to_its_replica_by_the_door_of_any_node(tmp_path: Path) -> None:
    async def whole() -> None:
        async with (
            opened(tmp_path / "here") as here,
            opened(tmp_path / "far") as far,
            opened(tmp_path / "third") as head,
        ):
            for name in ("one", "other"):
                await here.replica(name, routing="consistent_hash")
            third = await far.replica("third", routing="consistent_hash")
            introduce(here, far, head)
            before = await answers(here)
            assert set(before.values()) == {"one", "other", "third"}
            assert before == await answers(far) == await answers(head)
            session = next(session for session in SESSIONS if before[session] == "third")
            async with head.client() as client:
                told = {"x-session-id": session}
                assert (await client.get(FLIGHTS, headers=told)).text == "third"
                await third.doorway.leave(10.0)
                await third.stop()
                introduce(here, far, head)
                after = await answers(head)
                assert (await client.get(FLIGHTS, headers=told)).text == after[session]
            assert after == await answers(here) == await answers(far)
            assert all(after[each] in (before[each], "one", "other") for each in SESSIONS)

    asyncio.run(asyncio.wait_for(whole(), 20.0))


def test_replicas_of_all_nodes_take_turns(tmp_path: Path) -> None:
    async def whole() -> None:
        async with opened(tmp_path / "here") as here, opened(tmp_path / "far") as far:
            await here.replica("one", routing="round_robin")
            for name in ("other", "third"):
                await far.replica(name, routing="round_robin")
            introduce(here, far)
            for _ in range(3):
                told = [await ask(here) for _ in range(3)]
                assert sorted(told) == ["one", "other", "third"]

    asyncio.run(asyncio.wait_for(whole(), 20.0))


@contextlib.contextmanager
def processes(path: Path, *names: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Replicas of flights that keep sessions behind the door at `path`, a process each."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name in names:
            command = [sys.executable, "-m", "tests.serve.door.sessions", str(path), name]
            process = stack.enter_context(subprocess.Popen(command, text=True))
            stack.callback(process.kill)
            running[name] = process
        yield running


def test_sessions_of_processes_that_are_killed_move_alone(tmp_path: Path) -> None:
    async def whole() -> None:
        async with opened(tmp_path / "door") as world:
            door = world.doors[0]
            with processes(world.path, "one", "other", "third") as running:
                await until(lambda: len(door.standing()["replicas"]) == 3)
                before = await answers(world)
                assert set(before.values()) == set(running)
                async with world.client() as staying:
                    session = next(s for s, name in before.items() if name != "one")
                    head = {"x-session-id": session}
                    assert (await staying.get(FLIGHTS, headers=head)).text == before[session]
                    running["one"].kill()
                    await until(lambda: len(door.standing()["replicas"]) == 2)
                    after = await answers(world)
                    assert (await staying.get(FLIGHTS, headers=head)).text == before[session]
                moved = {s for s in SESSIONS if after[s] != before[s]}
                assert moved == {s for s in SESSIONS if before[s] == "one"}

    asyncio.run(asyncio.wait_for(whole(), 120.0))
