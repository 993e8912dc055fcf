"""Connections that are handed from process to process, each of which is somebody's at any moment.

    giver --connection, the request that was read of it--> taker
          <---------------------taken---------------------     and only then the taker reads of it

Who gives one keeps it open until the other end says that it took it. So what the other end leaves
behind when it dies is as it was given, and goes to somebody else.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from contextlib import suppress

from raymlops.serve.door.wire import Channel, Message
from raymlops.serve.http import Strayed


class Hands:
    """Gives and takes connections over `channel`, by messages "given" and "taken"."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._given: deque[tuple[socket.socket, Strayed | None]] = deque()
        self._all_taken = asyncio.Event()
        self._all_taken.set()

    def give(self, descriptor: int, strayed: Strayed | None) -> None:
        """Gives a connected socket, with the request that was read of it if one was; the caller
        closes its own descriptor.

        Raises:
            ConnectionError: the other end has gone.
        """
        kept = socket.socket(fileno=os.dup(descriptor))
        try:
            self._send(descriptor, strayed)
        except OSError:
            kept.close()
            raise
        self._given.append((kept, strayed))
        self._all_taken.clear()

    def take(self, message: Message) -> tuple[socket.socket, Strayed | None] | None:
        """The connected socket of a message "given", and the request that was read of it; None
        where this process had no descriptor left for it. Its client is not kept waiting: who gave
        it closes it, as it is told that it was taken."""
        if len(message.descriptors) < (2 if "path_bytes" in message.values else 1):
            for descriptor in message.descriptors:
                os.close(descriptor)
            with suppress(OSError):
                self.channel.send("taken")
            return None
        connection, strayed = socket.socket(fileno=message.descriptors[0]), None
        if len(message.descriptors) > 1:
            with os.fdopen(message.descriptors[1], "rb") as file:
                file.seek(0)
                path = file.read(message.values["path_bytes"]).decode()
                strayed = Strayed(path, file.read())
        with suppress(OSError):  # who gave it has died, and keeps nothing
            self.channel.send("taken")
        return connection, strayed

    def settle(self) -> None:
        """The other end has said "taken" of the oldest that was given."""
        self._given.popleft()[0].close()
        if not self._given:
            self._all_taken.set()

    @property
    def num_given(self) -> int:
        """Those that the other end has not taken yet."""
        return len(self._given)

    async def untaken(self, timeout_s: float) -> int:
        """Waits until the other end has taken all it was given; returns how many it has not.

        Who closes before loses them: the kernel keeps few, the rest wait here to be sent.
        """
        try:
            await asyncio.wait_for(self._all_taken.wait(), timeout_s)
        except TimeoutError:
            return self.num_given
        return 0

    def left(self) -> list[tuple[socket.socket, Strayed | None]]:
        """Those that the other end did not take, once it has gone; they are the caller's."""
        left = list(self._given)
        self._given.clear()
        self._all_taken.set()
        return left

    def close(self) -> None:
        """Ends the conversation; what the kernel has of it arrives."""
        self.channel.close()
        for connection, _ in self.left():
            connection.close()

    def _send(self, descriptor: int, strayed: Strayed | None) -> None:
        if strayed is None:
            self.channel.send("given", descriptor)
            return
        path = strayed.path.encode()
        memory = os.memfd_create("raymlops-read")
        try:
            with os.fdopen(memory, "wb", closefd=False) as file:
                file.write(path + strayed.read)  # a packet has not room for any path
            self.channel.send("given", descriptor, memory, path_bytes=len(path))
        finally:
            os.close(memory)
