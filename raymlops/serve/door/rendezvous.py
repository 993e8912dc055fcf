"""Where the replicas of a node come to their door: a Unix socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from raymlops.serve.door.wire import Channel, Message


class Rendezvous:
    """Lets replicas in by the socket at `path`; `enter` is told of the first message of each."""

    def __init__(self, path: Path, *, enter: Callable[[Channel, Message], None]) -> None:
        self._path = path
        self._enter = enter
        self._strangers: set[Channel] = set()

    def open(self) -> None:
        """In the running loop, to which its channels belong."""
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))
        self._socket.listen(128)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._let_in)

    def close(self) -> None:
        """Those who have entered stay."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)
        for channel in self._strangers:
            channel.close()

    def _let_in(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return
        channel: Channel
        channel = Channel(
            peer,
            lambda message: self._recognise(channel, message),
            lambda: self._strangers.discard(channel),
        )
        self._strangers.add(channel)

    def _recognise(self, channel: Channel, message: Message) -> None:
        self._strangers.discard(channel)
        self._enter(channel, message)
