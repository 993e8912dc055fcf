"""The few pieces of ASGI that our applications need: live, read a body, send JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from raymlops.errors import RequestError
from raymlops.serve import protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Response:
    """JSON, and the methods that would have been allowed when the one used was not."""

    status: int
    body: bytes
    allow: str | None = None

    @classmethod
    def error(cls, status: int, message: str) -> Response:
        return cls(status, protocol.encode_error(message))

    @classmethod
    def not_found(cls, path: str) -> Response:
        return cls.error(404, f"there is nothing at {path}")

    @classmethod
    def not_allowed(cls, allow: str) -> Response:
        return cls(405, protocol.encode_error(f"the method must be {allow}"), allow)


async def _nothing() -> None:
    pass


class Application:
    """`http` with what servers ask for beside it: lifespan events, and no websockets.

    An exception of `start` keeps the server from serving.
    """

    def __init__(self, http: App, *, start: Hook = _nothing, stop: Hook = _nothing) -> None:
        self._http = http
        self._start = start
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            match (await receive())["type"]:
                case "lifespan.startup":
                    await self._start()
                    await send({"type": "lifespan.startup.complete"})
                case "lifespan.shutdown":
                    await self._stop()
                    await send({"type": "lifespan.shutdown.complete"})
                    return


class ClientGoneError(Exception):
    """The client disconnected before its request had arrived."""


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int) -> bytes:
    """The request's body.

    Raises:
        RequestError: 413 when it is larger than `max_bytes`; no more than that is ever held.
        ClientGoneError: nobody waits for an answer any more.
    """
    _check_size(_content_length(scope), max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        _check_size(size, max_bytes)
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_json(send: Send, response: Response) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(response.body)).encode()),
    ]
    if response.allow is not None:
        headers.append((b"allow", response.allow.encode()))
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": response.body})


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise RequestError(413, f"the body is larger than {max_bytes} bytes")
