"""A door and its replicas over real sockets, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from raymlops.serve.door import Door, Doorway, Roster
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.http import HttpLimits
from raymlops.serve.routing import RoutingName
from raymlops.serve.web import Handler, Reply, Request, Response
from tests.serve.coroutines import until

INFER = "/v2/models/{}/infer"


class Replica:
    """A doorway whose handler says who it is, and can be told to wait."""

    def __init__(
        self,
        path: Path,
        name: str,
        models: Sequence[str],
        *,
        routing: RoutingName | None = None,
        rows_per_s: float = 1.0,
        limits: HttpLimits | None = None,
    ) -> None:
        self.name = name
        self.held: list[Reply] | None = None
        self.doorway = Doorway(
            path,
            models=models,
            replica=name,
            handler=self.handle,
            limits=limits or HttpLimits(),
            describe=lambda: {"rows_per_s": rows_per_s},
            routing=routing,
        )

    def start(self) -> None:
        self.task = asyncio.create_task(self.doorway.run())

    def handle(self, request: Request, reply: Reply) -> None:
        if self.held is None:
            reply(Response(200, self.name.encode() + request.body))
        else:
            self.held.append(reply)

    @property
    def connections(self) -> int:
        return len(self.doorway.server.connections)

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.doorway.close()


class World:
    """A node: a door at `path`, and its replicas."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replicas: list[Replica] = []
        self.doors: list[Door] = []

    async def open(self, tls: TlsFiles | None = None) -> Door:
        door = Door(self.path, own_answers, HttpLimits(), tls=tls)
        door.start()
        self.doors.append(door)
        self.port = (await door.listen("127.0.0.1", getattr(self, "port", 0)))[1]
        return door

    async def encrypt(self, tls: TlsFiles) -> Door:
        """In place of the door there is, one on another port that lets in TLS alone."""
        self.doors.pop().close()
        del self.port
        return await self.open(tls)

    async def replica(self, name: str, *models: str, **made: Any) -> Replica:
        replica = self.add(name, *models, **made)
        await until(lambda: replica.doorway._held != {})
        return replica

    def add(self, name: str, *models: str, **made: Any) -> Replica:
        """Of flights, unless others are named; its door may come later."""
        replica = Replica(self.path, name, models or ["flights"], **made)
        self.replicas.append(replica)
        replica.start()
        return replica

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=1)
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", limits=limits)

    def encrypted_client(self, verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
        url = f"https://127.0.0.1:{self.port}"
        return httpx.AsyncClient(base_url=url, verify=verify, trust_env=False)


def own_answers(roster: Roster) -> Handler:
    def handle(request: Request, reply: Reply) -> None:
        known = ",".join(sorted(roster.models)) or "none"
        reply(Response(404, f"the door: {known}".encode()))

    return handle


@asynccontextmanager
async def opened(path: Path, tls: TlsFiles | None = None) -> AsyncIterator[World]:
    world = World(path)
    await world.open(tls)
    try:
        yield world
    finally:
        for replica in world.replicas:
            await replica.stop()
        for door in world.doors:
            door.close()
        await asyncio.sleep(0)


Run = Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]
