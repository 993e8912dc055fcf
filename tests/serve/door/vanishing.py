"""Two nodes, a process each: the far one has the replicas, until the machine is not there any more.

    python -m tests.serve.door.vanishing far FOLDER ADDRESS    prints how to come in
    python -m tests.serve.door.vanishing here FOLDER ENTRANCE

Both go on when they get a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

import httpx

from raymlops.serve.door.crowds import Crowd
from raymlops.serve.door.neighbours import Card
from raymlops.serve.door.relay import Entrance
from tests.serve.coroutines import until
from tests.serve.door.world import INFER, opened

FLIGHTS = INFER.format("flights")


async def far(folder: Path, address: str) -> None:
    async with opened(folder / "far") as world:
        replica = await world.replica("far")
        card = world.doors[0].card(address, "here")
        told = asdict(card.entrance) | {"secret": card.entrance.secret.hex()}
        _say(json.dumps(told))
        await until(lambda: replica.connections == 3)
        await _line()
        replica.held = []  # what is asked from now on stays in flight
        _say("holds")
        await until(lambda: bool(replica.held))
        _say("asked")
        await asyncio.Event().wait()


async def here(folder: Path, told: dict[str, str]) -> None:
    """Three clients: one asks before the machine vanishes, one after, one is idle until both know.

    Says what they were told.
    """
    entrance = Entrance(
        host=told["host"], port=int(told["port"]), secret=bytes.fromhex(told["secret"])
    )
    card = Card(entrance=entrance, crowds={"flights": Crowd(replicas=1, connections=0)}, relays={})
    async with opened(folder / "here") as world:
        world.doors[0].meet("far", card, own_node="here")
        async with world.client() as one, world.client() as other, world.client() as idle:
            clients = [one, other, idle]
            answers = [(await client.get(FLIGHTS)).text for client in clients]
            _say(json.dumps(answers))
            await _line()
            in_flight = asyncio.create_task(_asked_twice(one))
            await _line()
            await world.replica("near")
            asked_late = asyncio.create_task(_asked_twice(other))
            found = [await in_flight, await asked_late, await _asked_twice(idle)]
            _say(json.dumps(found))


async def _asked_twice(client: httpx.AsyncClient) -> tuple[str, str]:
    """How the first attempt ended, and what the second was answered; both soon."""
    first = "answered"
    try:
        await client.get(FLIGHTS, timeout=30.0)
    except (httpx.ReadError, httpx.RemoteProtocolError):
        first = "cut"
    return first, (await client.get(FLIGHTS, timeout=30.0)).text


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _line() -> None:
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    role, folder, told = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    asyncio.run(far(folder, told) if role == "far" else here(folder, json.loads(told)))
