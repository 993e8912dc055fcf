"""A server of HTTP/1.1 on connections that somebody else accepted, or on a socket of its own."""

from __future__ import annotations

import asyncio
import socket
import time

from raymlops.errors import RequestError
from raymlops.serve.http.connection import Connection, HandOver
from raymlops.serve.http.encode import Encoder
from raymlops.serve.http.heads import Heads
from raymlops.serve.http.limits import HttpLimits, idlest, surplus
from raymlops.serve.http.machine import Belongs
from raymlops.serve.process.descriptors import most_open
from raymlops.serve.web import Admit, Handler, Refused, Response, untold

_SWEEP_S = 0.5
_MAX_BODIES = 32
"""So many of the largest size are held while they are not complete, looked at twice a second."""
_FILLED = 15
"""So many sixteenths of the places may be taken by connections that idle."""
_TOO_MUCH = "too many bodies are being received; try again"


class HttpServer:
    """Answers by `handler` whatever comes over its connections; belongs to one event loop.

    Args:
        admit: refuses requests by their heads, e.g. for want of a key.
        refused: is told of those, and of others that are too large or too slow.
        belongs: whether a path is answered here; connections that ask for another one are given
            to `hand_over`.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        *,
        admit: Admit | None = None,
        refused: Refused = untold,
        belongs: Belongs | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.admit = admit
        self.refused = refused
        self.belongs = belongs
        self.hand_over = hand_over
        self.heads = Heads(handler, admit)
        self.encoder = Encoder(time.time())
        self.now = time.monotonic()
        self.max_connections = most_open(limits.max_connections)
        self.connections: set[Connection] = set()
        self.num_accepted = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self) -> None:
        """Begins to keep time; the loop this is called on is the server's."""
        self._sweep()

    async def adopt(self, connection: socket.socket, read: bytes = b"") -> None:
        """Serves a connected socket, of which `read` was read already."""
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Connection(self, read), connection)

    async def listen(self, listening: socket.socket) -> asyncio.Server:
        """Accepts from a bound socket, in this process alone."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Connection(self), sock=listening, backlog=4096)

    async def drain(self, timeout_s: float, hand_over: HandOver | None = None) -> int:
        """Answers what was received and lets every connection go; returns how many were cut.

        With `hand_over` they go to another process between two requests, and clients notice
        nothing; without, their last answer says that it is the last.
        """
        for connection in tuple(self.connections):
            if hand_over is None:
                connection.finish()
            else:
                connection.leave(hand_over)
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            cut = len(self.connections)
            for connection in tuple(self.connections):
                connection.abort()
            return cut
        return 0

    def keep(self, number: int, hand_over: HandOver) -> None:
        """Lets all but `number` connections go to another process."""
        leaving = sum(connection.is_leaving for connection in self.connections)
        surplus = len(self.connections) - leaving - number
        staying = [each for each in self.connections if not each.is_leaving]
        for connection in staying[: max(0, surplus)]:
            connection.leave(hand_over)

    def stop(self) -> None:
        """Keeps time no more, and cuts what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self.connections):
            connection.abort()

    # What connections tell.

    def opened(self, connection: Connection) -> None:
        self.num_accepted += 1
        self.connections.add(connection)
        self._empty.clear()
        if len(self.connections) > self.max_connections:
            connection.abort()

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _sweep(self) -> None:
        self.now = time.monotonic()
        self.encoder.tick(time.time())
        for connection in tuple(self.connections):
            connection.sweep(self.now)
        self._give_up_surplus()
        self._make_room()
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _make_room(self) -> None:
        """Ends those that idle longest while nearly all places are taken, so that who comes with a
        request is not turned away for who only keeps a connection."""
        most = self.max_connections * _FILLED // 16
        if len(self.connections) <= most:
            return
        idle_s = {each: each.idle_s for each in self.connections if not each.is_ending}
        for connection in idlest(idle_s, max(0, len(idle_s) - most)):
            connection.finish()

    def _give_up_surplus(self) -> None:
        unfinished = {each: each.machine.unfinished_bytes for each in self.connections}
        for connection in surplus(unfinished, _MAX_BODIES * self.limits.max_body_bytes):
            connection.give_up(Response.refusal(RequestError(503, _TOO_MUCH)))
