"""Connections that cannot go on yet: their clients have said too little, or nobody can answer."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from raymlops.serve.http import Strayed
from raymlops.serve.process.descriptors import most_open

_HELD_OPEN = 20_000
"""Connections that may wait at once; beyond that the oldest is closed."""
_LOOK_S = 0.1
"""How soon a connection is looked at again whose kernel does not tell when there is more."""


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True, eq=False)
class Visitor:
    """A connection on its way to a replica, with the request that was read of it already.

    `session` says whose it is, where that decides who gets it."""

    connection: socket.socket
    strayed: Strayed | None = None
    session: str = ""
    since: float = field(default_factory=_now)
    unread: int = 0

    @property
    def read(self) -> bytes:
        return b"" if self.strayed is None else self.strayed.read


def has_ended(connection: socket.socket) -> bool:
    """Whether the client sends no more, also while what it has sent is unread."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


class WaitingRoom:
    """Nobody waits longer than `patience_s`; belongs to one event loop."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._held_open = most_open(_HELD_OPEN)
        self._silent: dict[Visitor, asyncio.TimerHandle | None] = {}
        self._unserved: dict[str, list[Visitor]] = {}

    def __len__(self) -> int:
        return len(self._silent) + sum(len(queue) for queue in self._unserved.values())

    def watch(self, visitor: Visitor, on_more: Callable[[Visitor], None], *, unread: int) -> None:
        """Calls `on_more` once the client has sent more than the `unread` bytes there are.

        Poll looks at SO_RCVLOWAT for TCP alone, and there not when memory is short: who was called
        for nothing is called again after a while, or would be without a pause.
        """
        loop, connection = asyncio.get_running_loop(), visitor.connection

        def look() -> None:
            self._release(visitor)
            on_more(visitor)

        if 0 < unread <= visitor.unread:
            self._silent[visitor] = loop.call_later(_LOOK_S, look)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, unread + 1)
            self._silent[visitor] = None
            loop.add_reader(connection.fileno(), look)
        visitor.unread = unread
        if len(self._silent) > self._held_open:
            self._release(oldest := next(iter(self._silent)))
            oldest.connection.close()

    def wait(self, model: str, visitor: Visitor) -> None:
        """Keeps a visitor until `take` asks for those of its model."""
        self._unserved.setdefault(model, []).append(visitor)

    def take(self, model: str) -> list[Visitor]:
        """Those who wait for the model, the longest first."""
        return sorted(self._unserved.pop(model, []), key=lambda visitor: visitor.since)

    def overdue(self) -> tuple[list[Visitor], list[Visitor]]:
        """Who has waited too long: clients that said too little, and those nobody answered."""
        latest = _now() - self._patience_s
        silent = [visitor for visitor in self._silent if visitor.since <= latest]
        for visitor in silent:
            self._release(visitor)
        unserved: list[Visitor] = []
        for model, queue in self._unserved.items():
            unserved += [visitor for visitor in queue if visitor.since <= latest]
            self._unserved[model] = [visitor for visitor in queue if visitor.since > latest]
        return silent, unserved

    def close(self) -> None:
        for visitor in tuple(self._silent):
            self._release(visitor)
            visitor.connection.close()
        for model in tuple(self._unserved):
            for visitor in self.take(model):
                visitor.connection.close()

    def _release(self, visitor: Visitor) -> None:
        asyncio.get_running_loop().remove_reader(visitor.connection.fileno())
        visitor.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if (timer := self._silent.pop(visitor)) is not None:
            timer.cancel()
