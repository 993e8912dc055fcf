"""Where a connection comes from, also when another socket carries its plain bytes.

That one's other end bears the address as its name, an abstract one of Linux, so that it is known
wherever the connection goes.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress


def client_of(connection: socket.socket) -> str:
    """The address of the client; of one that has gone, a name that no other has."""
    with suppress(OSError):
        peer = connection.getpeername()
        if isinstance(peer, bytes):
            return peer.split(b"\0")[1].decode()
        if isinstance(peer, tuple):
            return str(peer[0])
    return secrets.token_hex(8)


def name_after(client: str, end: socket.socket) -> None:
    """Whoever asks the other end for its client is told this one."""
    end.bind(f"\0{client}\0{secrets.token_hex(8)}")
