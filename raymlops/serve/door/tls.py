"""TLS ends at the door: a connection's plain bytes go on through a pair of sockets.

    client ==TLS==> door --plain--> one end of a socketpair, the other is the replica's

So that encrypted connections are sorted by path, and move, like all others. The door copies their
bytes, which plain connections spare it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError, TLSVersion

from raymlops.errors import ConfigError
from raymlops.serve.door.clients import client_of, name_after
from raymlops.serve.door.copying import Side

_HANDSHAKE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """The server's certificate, with its chain, and its key, in PEM; on every node with a door."""

    certificate: Path
    key: Path

    def context(self) -> SSLContext:
        """Raises ConfigError when the files are not there or do not fit."""
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.minimum_version = TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, SSLError) as error:
            raise ConfigError(
                f"TLS with certificate {self.certificate} and key {self.key}: {error}"
            ) from error
        return context


async def decrypt(
    connection: socket.socket, context: SSLContext, on_plain: Callable[[socket.socket], None]
) -> None:
    """Shakes hands, and calls `on_plain` with a socket that carries what is inside."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    name_after(client_of(connection), ours)
    for end in (ours, theirs):
        end.setblocking(False)
    outside, inside = Side.pair()
    await loop.create_connection(lambda: inside, sock=ours)
    try:
        await loop.connect_accepted_socket(
            lambda: outside, connection, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S
        )
    except OSError:  # not TLS, too slow, or gone
        inside.transport.abort()
        theirs.close()
        return
    on_plain(theirs)
