"""Connections that are handed from process to process, each of which is somebody's at any moment.

    giver --connection, what was read of it--> taker
          <--------------taken----------------         and only then the taker reads of it

Who gives one keeps it open until the other end says that it took it. So what the other end leaves
behind when it dies is as it was given, and goes to somebody else.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress

from raymlops.serve.door.wire import Channel, Message


class Hands:
    """Gives and takes connections over `channel`, by messages "given" and "taken"."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._given: deque[tuple[socket.socket, bytes]] = deque()

    def give(self, descriptor: int, read: bytes) -> None:
        """Gives a connected socket with what was read of it; the caller closes its own descriptor.

        Raises:
            ConnectionError: the other end has gone.
        """
        kept = socket.socket(fileno=os.dup(descriptor))
        try:
            self._send(descriptor, read)
        except OSError:
            kept.close()
            raise
        self._given.append((kept, read))

    def take(self, message: Message) -> tuple[socket.socket, bytes]:
        """The connected socket of a message "given", and what was read of it."""
        connection, read = socket.socket(fileno=message.descriptors[0]), b""
        if len(message.descriptors) > 1:
            with os.fdopen(message.descriptors[1], "rb") as file:
                file.seek(0)
                read = file.read()
        with suppress(OSError):  # who gave it has died, and keeps nothing
            self.channel.send("taken")
        return connection, read

    def settle(self) -> None:
        """The other end has said "taken" of the oldest that was given."""
        self._given.popleft()[0].close()

    def left(self) -> list[tuple[socket.socket, bytes]]:
        """Those that the other end did not take, once it has gone; they are the caller's."""
        left = list(self._given)
        self._given.clear()
        return left

    def close(self) -> None:
        """Ends the conversation; what is on its way there arrives."""
        self.channel.close()
        for connection, _ in self.left():
            connection.close()

    def _send(self, descriptor: int, read: bytes) -> None:
        if not read:
            self.channel.send("given", descriptor)
            return
        memory = os.memfd_create("raymlops-read")
        try:
            with os.fdopen(memory, "wb", closefd=False) as file:
                file.write(read)
            self.channel.send("given", descriptor, memory)
        finally:
            os.close(memory)
