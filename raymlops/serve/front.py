"""The ASGI application of the server as a whole: /v2 and its health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from raymlops.serve import protocol
from raymlops.serve.asgi import Receive, Response, Scope, Send, send_json


class FrontApp:
    """Answers what concerns no single model; `is_ready` says whether all of them serve."""

    def __init__(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, await self._respond(scope["method"], scope["path"]))

    async def _respond(self, method: str, path: str) -> Response:
        parts = path.split("/")[1:]
        if parts[:2] == ["v2", "models"] and len(parts) > 2:
            return Response.error(404, f"no model '{parts[2]}' is deployed")
        if parts not in (["v2"], ["v2", "health", "live"], ["v2", "health", "ready"]):
            return Response.not_found(path)
        if method != "GET":
            return Response.not_allowed("GET")
        match parts[-1]:
            case "live":
                return Response(200, protocol.encode_health(live=True))
            case "ready":
                ready = await self._is_ready()
                return Response(200 if ready else 503, protocol.encode_health(ready=ready))
            case _:
                return Response(200, protocol.encode_server_metadata())
