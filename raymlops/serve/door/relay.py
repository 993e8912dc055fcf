"""A connection goes on to the door of another node, whose replicas have room for it.

    client --> this door --secret, model, session--> that door's entrance --> one of its replicas
                         <---------welcome---------
    client <-- requests and answers, copied here --> that door, one of its replicas

The secret is told through Ray alone, so that nobody else comes in by an entrance. With TLS it is
encrypted by the certificate of the door it leads to.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ssl import PROTOCOL_TLS_CLIENT, VERIFY_X509_PARTIAL_CHAIN, SSLContext, TLSVersion
from typing import cast

from raymlops.serve.door.copying import Side

_logger = logging.getLogger(__name__)

_SECRET_BYTES = 32
_NAME_LENGTH = struct.Struct(">H")
_WELCOME, _UNSERVED = b"\x06", b"\x15"
_KNOCK_S = 2.0
_SILENT_S = 5
"""After so long without a sign of life a machine is taken for lost, and its relays end."""
_PROBES = 3


class UnservedError(Exception):
    """The other door has no replica of the model at the moment."""


@dataclass(frozen=True, kw_only=True)
class Entrance:
    """Where a door lets in the door of another node, which the secret tells from all others;
    `certificate` is its own, in PEM."""

    host: str
    port: int
    secret: bytes
    certificate: str | None = None


def new_secret() -> bytes:
    return secrets.token_bytes(_SECRET_BYTES)


async def knock(entrance: Entrance, model: str, session: str) -> asyncio.Transport:
    """A connection by the door behind `entrance`, which has given it to a replica of `model`; to
    that of `session`, where one is told.

    Raises:
        OSError: nobody is there, or not who gave the secret.
        UnservedError: no replica is.
    """
    # Neither holds a line break, and doors of earlier versions know of no session.
    loop, name = asyncio.get_running_loop(), (f"{model}\n{session}" if session else model).encode()
    context = None if entrance.certificate is None else _trusting(entrance.certificate)
    async with asyncio.timeout(_KNOCK_S):
        transport, knocker = await loop.create_connection(
            lambda: _Knocker(entrance.secret + _NAME_LENGTH.pack(len(name)) + name),
            entrance.host,
            entrance.port,
            ssl=context,
        )
        try:
            if await knocker.heard != _WELCOME:
                raise UnservedError
        except BaseException:
            transport.abort()
            raise
    _notice_silence(transport.get_extra_info("socket"))
    return transport


async def relay(connection: socket.socket, read: bytes, far: asyncio.Transport) -> None:
    """Makes one of a client's connection, of which `read` was read, and one that `knock` gave;
    returns when it has ended."""
    here, there = Side.pair()
    far.set_protocol(there)
    there.connection_made(far)
    try:
        await asyncio.get_running_loop().create_connection(lambda: here, sock=connection)
        if read:
            far.write(read)
        far.resume_reading()
        await asyncio.wait((here.ended, there.ended))
    finally:
        far.close()  # and with it the other side


async def who_knocks(
    connection: socket.socket, secret_of: Mapping[str, bytes]
) -> tuple[str, str, str] | None:
    """The node whose secret was told by who connected to an entrance, and the model and session of
    the connection it brings; None for a stranger. A door waits for `answer`."""
    try:
        async with asyncio.timeout(_KNOCK_S):
            said = await _exactly(connection, _SECRET_BYTES)
            for node, secret in secret_of.items():
                if hmac.compare_digest(said, secret):
                    (length,) = _NAME_LENGTH.unpack(await _exactly(connection, _NAME_LENGTH.size))
                    name = (await _exactly(connection, length)).decode()
                    model, _, session = name.partition("\n")
                    return node, model, session
    except (OSError, EOFError) as error:
        _logger.info("who came in by the entrance was too slow, or has gone: %r", error)
    return None


def answer(connection: socket.socket, *, served: bool) -> None:
    """Tells a door that knocked whether a replica has its connection."""
    with suppress(OSError):  # it has gone, or died
        connection.send(_WELCOME if served else _UNSERVED)


async def _exactly(connection: socket.socket, size: int) -> bytes:
    said = b""
    while len(said) < size:
        more = await asyncio.get_running_loop().sock_recv(connection, size - len(said))
        if not more:
            raise EOFError
        said += more
    return said


class _Knocker(asyncio.Protocol):
    """Says what it is told to, and hears one byte."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._says)

    def data_received(self, data: bytes) -> None:
        self._transport.pause_reading()
        if not self.heard.done():
            self.heard.set_result(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.heard.done():
            self.heard.set_exception(ConnectionResetError("the door does not let us in"))


@lru_cache(maxsize=64)
def _trusting(certificate: str) -> SSLContext:
    """Trusts that certificate and no other, whatever name it was made for."""
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.minimum_version = TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context


def _notice_silence(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENT_S)
