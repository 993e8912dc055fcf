"""A handler that answers when it is told to, and what defers its answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from raymlops.serve.deferred import DeferredPolicy, Deferring, Results
from raymlops.serve.web import Reply, Request, Response
from raymlops.storage import Files

POLICY = DeferredPolicy(
    ttl_s=100.0, lost_after_s=10.0, max_pending=2, webhooks=("https://hooks.example/a/",)
)
RESULTS = "/v2/models/m/results"


def deferred(id: str) -> Request:
    headers = {"prefer": "respond-async", "x-request-id": id}
    return Request("POST", "/v2/models/m/infer", headers=headers, body=b"{}")


class World:
    """A handler that answers when it is told to, behind the one that defers."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.now = 1000.0
        self.waiting: list[Reply] = []
        self.asked: list[Request] = []
        self.told: list[tuple[str, int, str]] = []
        self.refused: list[int] = []
        self.folder = str(folder)
        self.results = Results(Files(self.folder), "m", POLICY)
        self.deferring = Deferring(
            self._handle,
            self.results,
            model="m",
            policy=POLICY,
            max_body_bytes=1000,
            refused=self._note_refusal,
            owner=lambda request: request.headers.get("x-api-key", ""),
            call=self._call,
            clock=lambda: self.now,
        )

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.send(Request(method, path, headers=named, body=b"{}"))
        return response.status, json.loads(response.body), dict(response.headers)

    def send(self, request: Request) -> Response:
        return self.runner.run(self._ask(request))

    def submit(self, id: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        path = "/v2/models/m/infer"
        return self.ask("POST", path, prefer="respond-async", x_request_id=id, **headers)

    def answer(self, body: bytes = b'{"outputs": []}', status: int = 200) -> None:
        """What the oldest request waits for; returns when it is kept."""

        async def reply() -> None:
            self.waiting.pop(0)(Response(status, body, headers=(("x-arm", "champion"),)))
            await self.deferring.close(10.0)

        self.runner.run(reply())

    def _handle(self, request: Request, reply: Reply) -> None:
        self.asked.append(request)
        if "prefer" in request.headers:
            self.waiting.append(reply)
            request.on_gone = lambda: self.waiting.remove(reply)
        else:
            reply(Response(200, b'"at once"'))

    def _note_refusal(self, _: Request, response: Response) -> None:
        self.refused.append(response.status)

    async def _call(self, url: str, response: Response, id: str) -> None:
        if response.status == 500:
            raise httpx.InvalidURL("nobody")
        self.told.append((url, response.status, id))

    async def _ask(self, request: Request) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.deferring(request, answer.set_result)
        response = await asyncio.wait_for(answer, 10.0)
        await asyncio.sleep(0)  # what was submitted begins
        return response
