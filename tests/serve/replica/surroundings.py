"""What stands around a replica: its board, its monitor's metrics, the server that drives it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from raymlops.serve.traffic.board import Published, Standing
from raymlops.telemetry import Snapshot


class QuietBoard:
    """Never has news."""

    def __init__(self) -> None:
        self.left: list[str] = []

    async def wait(self, standing: Standing) -> Published | None:
        await asyncio.Event().wait()
        return None

    async def leave(self, replica: str) -> None:
        self.left.append(replica)


class Gatherer:
    """Keeps the newest snapshot."""

    def __init__(self) -> None:
        self.newest = Snapshot(source="", sequence=-1, series=())

    async def put(self, snapshot: Snapshot) -> None:
        self.newest = snapshot

    def counts(self, metric: str) -> dict[tuple[str, ...], float]:
        return {each.labels: each.value for each in self.newest.series if each.metric == metric}


class Server:
    """Drives a replica's application as a server does: lifespan, then requests, then the end."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.replies: asyncio.Queue[Any] = asyncio.Queue()

    async def __aenter__(self) -> httpx.AsyncClient:
        scope = {"type": "lifespan"}
        self.life = asyncio.create_task(self.app(scope, self.events.get, self.replies.put))
        assert await self.say("startup") == "lifespan.startup.complete"
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://server")

    async def __aexit__(self, *_: object) -> None:
        assert await self.say("shutdown") == "lifespan.shutdown.complete"
        await self.life

    async def say(self, event: str) -> str:
        await self.events.put({"type": f"lifespan.{event}"})
        return str((await self.replies.get())["type"])
