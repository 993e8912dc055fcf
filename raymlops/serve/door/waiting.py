"""Connections that cannot go on yet: their clients have said too little, or nobody can answer."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

_HELD_OPEN = 20_000
"""Connections that may wait at once; beyond that the oldest is closed."""


class WaitingRoom:
    """Nobody waits longer than `patience_s`; belongs to one event loop."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._silent: dict[socket.socket, float] = {}
        self._unserved: dict[str, deque[tuple[socket.socket, bytes, float]]] = {}

    def __len__(self) -> int:
        return len(self._silent) + sum(len(queue) for queue in self._unserved.values())

    def watch(
        self, connection: socket.socket, on_more: Callable[[socket.socket], None], *, unread: int
    ) -> None:
        """Calls `on_more` once the client has sent more than the `unread` bytes there are."""
        loop = asyncio.get_running_loop()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, unread + 1)
        self._silent.setdefault(connection, loop.time())
        if len(self._silent) > _HELD_OPEN:
            self._release(oldest := next(iter(self._silent)))
            oldest.close()

        def look() -> None:
            since = self._silent[connection]
            self._release(connection)
            on_more(connection)
            if connection in self._silent:  # still too little: its patience goes on, not anew
                self._silent[connection] = since

        loop.add_reader(connection.fileno(), look)

    def wait(self, model: str, connection: socket.socket, read: bytes) -> None:
        """Keeps a connection until `take` asks for those of its model."""
        queue = self._unserved.setdefault(model, deque())
        queue.append((connection, read, asyncio.get_running_loop().time()))

    def take(self, model: str) -> list[tuple[socket.socket, bytes]]:
        """Those who wait for the model, the longest first."""
        queue = self._unserved.pop(model, deque())
        return [(connection, read) for connection, read, _ in queue]

    def overdue(self) -> tuple[list[socket.socket], list[tuple[socket.socket, bytes]]]:
        """Who has waited too long: clients that said too little, and those nobody answered."""
        latest = asyncio.get_running_loop().time() - self._patience_s
        silent = [connection for connection, since in self._silent.items() if since <= latest]
        for connection in silent:
            self._release(connection)
        unserved: list[tuple[socket.socket, bytes]] = []
        for queue in self._unserved.values():
            while queue and queue[0][2] <= latest:
                unserved.append(queue.popleft()[:2])
        return silent, unserved

    def close(self) -> None:
        for connection in tuple(self._silent):
            self._release(connection)
            connection.close()
        for model in tuple(self._unserved):
            for connection, _ in self.take(model):
                connection.close()

    def _release(self, connection: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(connection.fileno())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        del self._silent[connection]
