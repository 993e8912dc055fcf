"""Messages with open sockets between processes of one node.

Each is one packet of a SOCK_SEQPACKET socket: JSON, with descriptors beside it (SCM_RIGHTS).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

_PACKET_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 64


@dataclass(frozen=True, kw_only=True)
class Message:
    """What happened, its values, and the descriptors that came with it, which are ours to close."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


class Channel:
    """One end of a conversation; belongs to the event loop it is made on.

    `on_message` is called with each message, `on_lost` once, when the other end has gone.
    """

    def __init__(
        self,
        peer: socket.socket,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None],
    ) -> None:
        peer.setblocking(False)
        self._peer = peer
        self._on_message = on_message
        self._on_lost = on_lost
        self._is_deaf = False
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(peer.fileno(), self._read)

    def listen_to(self, on_message: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        """Somebody else hears what comes from now on."""
        self._on_message, self._on_lost = on_message, on_lost

    @property
    def is_open(self) -> bool:
        return self._peer.fileno() >= 0

    def send(self, kind: str, *descriptors: int, **values: Any) -> None:
        """Sends in order, now or when the other end has room; the caller keeps its descriptors.

        Raises:
            ConnectionError: the other end has gone, of which `on_lost` is told soon.
        """
        if self._is_deaf or not self.is_open:
            raise ConnectionResetError("the other end has gone")
        packet = orjson.dumps({"kind": kind, **values})
        try:
            if not self._waiting and self._try(packet, descriptors):
                return
        except ConnectionError:
            self._is_deaf = True
            self._loop.call_soon(self._lose)
            raise
        if not self._waiting:
            self._loop.add_writer(self._peer.fileno(), self._write)
        self._waiting.append((packet, [os.dup(descriptor) for descriptor in descriptors]))

    def close(self) -> None:
        """Ends the conversation, without telling `on_lost`."""
        if not self.is_open:
            return
        self._loop.remove_reader(self._peer.fileno())
        self._loop.remove_writer(self._peer.fileno())
        for _, descriptors in self._waiting:
            _close(descriptors)
        self._waiting.clear()
        self._peer.close()

    def _try(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        try:
            socket.send_fds(self._peer, [packet], list(descriptors))
        except BlockingIOError:
            return False
        return True

    def _write(self) -> None:
        try:
            while self._waiting and self._try(*self._waiting[0]):
                _close(self._waiting.popleft()[1])
        except OSError:
            self._lose()
            return
        if not self._waiting:
            self._loop.remove_writer(self._peer.fileno())

    def _read(self) -> None:
        while self.is_open:
            try:
                message = self._receive()
            except BlockingIOError:
                return
            if message is None:
                self._end()
            else:
                self._on_message(message)

    def _receive(self) -> Message | None:
        """The next message; None once the other end has gone and has said no more.

        Raises:
            BlockingIOError: there is none yet.
        """
        try:
            packet, descriptors = self._packet()
        except ConnectionResetError:  # told once of what it left unread, before what it said
            packet, descriptors = self._packet()
        if not packet:
            return None
        values = orjson.loads(packet)
        return Message(kind=values.pop("kind"), values=values, descriptors=tuple(descriptors))

    def _packet(self) -> tuple[bytes, list[int]]:
        packet, descriptors, _, _ = socket.recv_fds(self._peer, _PACKET_BYTES, _MAX_DESCRIPTORS)
        return packet, descriptors

    def _lose(self) -> None:
        """The other end hears nothing any more; what it said before counts."""
        self._read()
        self._end()

    def _end(self) -> None:
        if self.is_open:
            self.close()
            self._on_lost()


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
