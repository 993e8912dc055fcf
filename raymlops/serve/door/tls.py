"""TLS ends at the door: a connection's plain bytes go on through a pair of sockets.

    client ==TLS==> door --plain--> one end of a socketpair, the other is the replica's

So that encrypted connections are sorted by path, and move, like all others. The door copies their
bytes, which plain connections spare it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError, TLSVersion
from typing import Any, NamedTuple

from cryptography import x509

from raymlops.errors import ConfigError
from raymlops.serve.door.clients import client_of, name_after
from raymlops.serve.door.copying import Side

_HANDSHAKE_S = 10.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """The server's certificate, with its chain, and its key, in PEM; on every node with a door.

    Paths are made absolute where this is made: doors are in other folders.
    """

    certificate: Path
    key: Path

    def __post_init__(self) -> None:
        for name in ("certificate", "key"):
            object.__setattr__(self, name, getattr(self, name).absolute())

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


class Validity(NamedTuple):
    """From when to when a certificate is good, in seconds since 1970."""

    since: float
    until: float


class Encryption:
    """What new connections are encrypted by: `files` as they were when they last fitted.

    A certificate lasts for weeks, a server for months. Connections keep what they began with.
    Whoever renews the files may write one after the other, or break them: nobody is refused then.

    Where they do not fit at first there is no context, and no certificate, until they do.
    """

    context: SSLContext | None = None
    certificate = key = b""
    validity: Validity | None = None
    """Of the certificate that new connections are shown."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.problem: str | None = None
        self._seen = _stamps(files)
        try:
            self._read()
        except ConfigError as error:
            self._tell(error)

    def renew(self) -> bool:
        """Whether `context` and the bytes are others now, since the files were replaced by others
        that fit; cheap enough to be asked of every connection."""
        if (found := _stamps(self.files)) == self._seen:
            return False
        self._seen = found
        try:
            self._read()
        except ConfigError as error:
            self._tell(error)
            return False
        self.problem = None
        _logger.info("new connections have what %s holds now", self.files.certificate)
        return True

    def shown(self) -> dict[str, Any]:
        """The file, and the validity of what is shown of it, for people; see `Validity`."""
        since, until = self.validity or (None, None)
        return {"file": str(self.files.certificate), "since": since, "until": until}

    def _tell(self, error: ConfigError) -> None:
        kept = "the certificate of before is used, the new one cannot be"
        if self.context is None:
            kept = "nobody is let in until the files fit"
        self.problem = f"{kept}: {error}"
        _logger.error("%s", self.problem)

    def _read(self) -> None:
        context = self.files.context()
        try:
            certificate, key = self.files.certificate.read_bytes(), self.files.key.read_bytes()
        except OSError as error:  # removed this moment
            raise ConfigError(f"TLS with certificate {self.files.certificate}: {error}") from error
        self.context, self.certificate, self.key = context, certificate, key
        self.validity = _validity(certificate)


def _validity(certificate: bytes) -> Validity | None:
    """None where it is written in a way that only OpenSSL reads."""
    try:
        own, *_ = x509.load_pem_x509_certificates(certificate)
    except ValueError as error:
        _logger.warning("until when the certificate is good cannot be told: %s", error)
        return None
    return Validity(own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp())


def _stamps(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """Differ once a file was replaced or written, also behind a link."""
    return tuple(_stamp(path) for path in (files.certificate, files.key))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


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
