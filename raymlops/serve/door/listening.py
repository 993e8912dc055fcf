"""Addresses where connections are accepted, and where TLS ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator

from raymlops.serve.door.tasks import Tasks
from raymlops.serve.door.tls import Encryption, decrypt

_BACKLOG = 4096
_ACCEPT_AT_ONCE = 64
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REST_S = 0.1
"""How long nobody is accepted once there are no descriptors left: a socket with clients in its
queue is ready again at once, and would take all of the event loop's time."""

_logger = logging.getLogger(__name__)

Address = tuple[str, int]


class Listeners:
    """Calls `on_plain` with every connection that is accepted, once it is plain; belongs to one
    event loop."""

    def __init__(
        self, on_plain: Callable[[socket.socket], None], *, tls: Encryption | None, tasks: Tasks
    ) -> None:
        self._on_plain = on_plain
        self._tls = tls
        self._tasks = tasks
        self._sockets: dict[Address, socket.socket] = {}
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self._sockets.values())

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(self._sockets)

    def known(self, host: str, port: int) -> Address | None:
        """Where it listens at that host, at that port or, for port 0, at any."""
        matching = (address for address in self._sockets if address[0] == host)
        return next((found for found in matching if port in (0, found[1])), None)

    def bind(self, host: str, port: int) -> socket.socket:
        """Listens there; raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        listening.setblocking(False)
        self.open(listening)
        return listening

    def open(self, listening: socket.socket) -> None:
        """Accepts from a listening socket, unless it is one it has already."""
        address = address_of(listening)
        if address in self._sockets:
            listening.close()
            return
        self._sockets[address] = listening
        self._go_on(listening)

    def close(self) -> None:
        for timer in self._resting.values():
            timer.cancel()
        for listening in self:
            asyncio.get_running_loop().remove_reader(listening.fileno())
            listening.close()

    def _go_on(self, listening: socket.socket) -> None:
        self._resting.pop(listening, None)
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _rest(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())
        self._resting[listening] = loop.call_later(_REST_S, self._go_on, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except OSError as error:  # nobody is left, or has gone again
                if error.errno in _EXHAUSTED:
                    _logger.warning("nobody can be accepted at the moment: %s", error)
                    self._rest(listening)
                return
            connection.setblocking(False)
            if self._tls is None:
                self._on_plain(connection)
            elif self._tls.context is None:
                connection.close()
            else:
                self._tasks.start(decrypt(connection, self._tls.context, self._on_plain))


def address_of(listening: socket.socket) -> Address:
    host, port = listening.getsockname()[:2]
    return host, port
