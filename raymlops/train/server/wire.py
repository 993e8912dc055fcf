"""What a worker and a shard of the same node tell each other over a Unix socket.

Only numbers travel here; gradients and parameters lie in memory that both map. The socket is the
doorbell, and its end tells that the other side has died. Its name is abstract, which the kernel
forgets with the process; each side checks that the other runs as the same user.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

_FORM = struct.Struct("<BBHIQQ")
_PEER = struct.Struct("3i")
_VALUE = struct.Struct("<d")
_TIME = struct.Struct("@ll")  # seconds and microseconds
MAX_MESSAGE_BYTES = 8192


class Kind(IntEnum):
    HELLO = 1  # slot: worker, number: incarnation, with the descriptor of its slots
    WELCOME = 2  # with the descriptor of the arena; the tail: last applied push of each block
    REFUSED = 3  # number: 1 if asking again is of no use; the tail: why
    PUSH = 4  # slot, number: sequence, count: rows
    APPLIED = 5  # number: sequence
    PULL = 6  # number: sequence
    GRANTED = 7  # number: version
    RELEASE = 8
    LEAVE = 9
    ADOPT = 10  # from a keeper that was restarted: answered by WELCOME
    MEASURE = 11  # number: sequence
    MEASURED = 12  # number: version, 0 when it was weighed; the tail: square, or norm
    WEIGH = 13  # number: version; the tail: norm


@dataclass(frozen=True, kw_only=True)
class Message:
    kind: Kind
    block: int = 0
    slot: int = 0
    number: int = 0
    count: int = 0
    tail: bytes = b""

    @property
    def value(self) -> float:
        """The tail of what carries a number with a fraction."""
        (found,) = _VALUE.unpack(self.tail)
        return float(found)

    def encode(self) -> bytes:
        head = _FORM.pack(self.kind, self.block, 0, self.slot, self.number, self.count)
        return head + self.tail

    @classmethod
    def decode(cls, data: bytes) -> Message:
        kind, block, _, slot, number, count = _FORM.unpack_from(data)
        return cls(
            kind=Kind(kind),
            block=block,
            slot=slot,
            number=number,
            count=count,
            tail=data[_FORM.size :],
        )


def tail_of(value: float) -> bytes:
    """What `Message.value` reads."""
    return _VALUE.pack(value)


def address_of(server: str, shard: int) -> str:
    return f"\0raymlops-parameters-{server}-{shard}"


def listen(address: str) -> socket.socket:
    """Raises OSError (EADDRINUSE) as long as another process has the address."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.bind(address)
    except OSError:
        line.close()
        raise
    line.listen(64)
    return line


def connect(address: str) -> socket.socket:
    """Raises ConnectionError when nobody of this user listens."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(address)
        check_peer(line)
    except OSError:
        line.close()
        raise
    return line


def be_patient(line: socket.socket, patience_s: float) -> None:
    """Has `receive` raise BlockingIOError when nothing came for so long.

    By the kernel: a timeout of Python's asks it before every message.
    """
    seconds, rest = divmod(patience_s, 1.0)
    line.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(int(seconds), int(rest * 1e6))
    )


def check_peer(line: socket.socket) -> int:
    """The process id of the other side; raises ConnectionRefusedError for another user's."""
    data = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, user, _ = _PEER.unpack(data)
    if user != os.getuid():
        raise ConnectionRefusedError(f"process {pid} of user {user} holds the other end")
    return int(pid)


def send(line: socket.socket, message: Message, *descriptors: int) -> None:
    if descriptors:
        socket.send_fds(line, [message.encode()], list(descriptors))
    else:
        line.send(message.encode())


def receive(line: socket.socket) -> tuple[Message, list[int]]:
    """The next message and the descriptors with it.

    Raises:
        ConnectionError: the other side has ended.
    """
    data, descriptors, _, _ = socket.recv_fds(line, MAX_MESSAGE_BYTES, 1)
    if not data:
        raise ConnectionResetError("the other side has ended")
    return Message.decode(data), descriptors
