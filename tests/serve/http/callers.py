"""A server on a real socket, and clients that write what they like."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

from raymlops.serve.http import HttpLimits, HttpServer
from raymlops.serve.web import Reply, Request, Response, Routes

GET = b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
HUGE = b"GET /huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class Echo:
    """Answers at once, or holds the reply until the test gives it."""

    def __init__(self) -> None:
        self.held: list[tuple[Request, Reply]] = []
        self.routes = Routes()
        self.routes.add("GET", "/echo", self.echo)
        self.routes.add("POST", "/echo", self.echo)
        self.routes.add("GET", "/large", lambda _, reply: reply(Response(200, b"x" * 1_000_000)))
        self.routes.add("GET", "/huge", lambda _, reply: reply(Response(200, b"x" * 20_000_000)))
        self.routes.add("GET", "/hold", lambda request, reply: self.held.append((request, reply)))

    def echo(self, request: Request, reply: Reply) -> None:
        reply(Response(200, request.body))


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[HttpServer, Echo, int]]:
    echo = Echo()
    server = HttpServer(echo.routes, options.pop("limits", HttpLimits()), **options)
    server.start()
    listening = socket.create_server(("127.0.0.1", 0))
    accepting = await server.listen(listening)
    try:
        yield server, echo, listening.getsockname()[1]
    finally:
        accepting.close()
        server.stop()
        while Caller.opened:
            await Caller.opened.pop().close()


class Caller:
    """A client that writes what it likes."""

    opened: ClassVar[list[Caller]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.opened.append(self)

    @classmethod
    async def to(cls, port: int, **options: Any) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    async def ask(self, sent: bytes) -> tuple[int, bytes, bool]:
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes, bool]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in head[1:-2])
        body = await self.reader.readexactly(int(fields[b"content-length"]))
        return int(head[0].split()[1]), body, b"connection" in fields

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def is_closed(self) -> bool:
        return await self.reader.read(1) == b""
