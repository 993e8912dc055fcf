"""Our application as ASGI, so that Ray Serve's proxy, or any ASGI server, can stand before it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from raymlops.errors import RequestError
from raymlops.serve.web import Admit, Handler, Refused, Request, Response, answered, untold

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Application:
    """`handler` with what servers ask for beside it: lifespan events, and no websockets.

    An exception of `start` keeps the server from serving.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_body_bytes: int,
        admit: Admit | None = None,
        refused: Refused = untold,
        start: Hook = _nothing,
        stop: Hook = _nothing,
    ) -> None:
        self._handler = handler
        self._max_body_bytes = max_body_bytes
        self._admit = admit
        self._refused = refused
        self._start = start
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request(scope)
        refusal = None if self._admit is None else self._admit(request)
        if refusal is not None:
            await self._refuse(request, refusal, send)
            return
        try:
            request.body = await _read_body(scope, receive, max_bytes=self._max_body_bytes)
        except RequestError as error:
            await self._refuse(request, Response.refusal(error), send)
        except _ClientGoneError:
            return
        else:
            await _send(send, await answered(self._handler, request))

    async def _refuse(self, request: Request, refusal: Response, send: Send) -> None:
        self._refused(request, refusal)
        await _send(send, refusal)

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


class _ClientGoneError(Exception):
    """The client disconnected before its request had arrived."""


async def _read_body(scope: Scope, receive: Receive, *, max_bytes: int) -> bytes:
    """The request's body.

    Raises:
        RequestError: 413 when it is larger than `max_bytes`; no more than that is ever held.
        _ClientGoneError: nobody waits for an answer any more.
    """
    _check_size(_content_length(scope), max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        _check_size(size, max_bytes)
        if not message.get("more_body", False):
            return b"".join(parts)


def _request(scope: Scope) -> Request:
    client = scope.get("client")
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
        headers={name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]},
        peer="" if client is None else client[0],
    )


async def _send(send: Send, response: Response) -> None:
    fields = (
        ("content-type", response.content_type),
        ("content-length", str(len(response.body))),
        *response.headers,
    )
    # As `http.encode` writes them: an id in a header may be any text.
    headers = [(name.encode("latin-1"), text.encode("latin-1", "replace")) for name, text in fields]
    start = {"type": "http.response.start", "status": response.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": response.body})


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise RequestError(413, f"the body is larger than {max_bytes} bytes")


def _content_length(scope: Scope) -> int:
    """What the client announced; 0 when it did not, or wrote nonsense."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    announced = headers.get(b"content-length", b"")
    return int(announced) if announced.isdigit() else 0
