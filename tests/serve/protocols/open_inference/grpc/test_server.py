"""Where a server listens, under which certificate, and which connections it keeps."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from raymlops.errors import ClusterError
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.http import HttpLimits
from raymlops.serve.protocols.open_inference.grpc import GrpcServer
from raymlops.serve.protocols.open_inference.grpc.messages import SERVICE
from tests.serve.door.conftest import make_certificate
from tests.serve.protocols.conftest import Listening
from tests.serve.protocols.open_inference.grpc.calling import call, connected, started


def test_an_address_that_is_taken_is_told(server: Listening) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own = GrpcServer(server.inference, limits=HttpLimits())
        with pytest.raises(ClusterError, match=f"gRPC cannot listen on 127.0.0.1:{port}"):
            server.run(own.start("127.0.0.1", port))
        server.run(own.stop(0.0))


@contextmanager
def encrypted(
    server: Listening, certificate: Path, key: Path
) -> Iterator[tuple[tuple[str, int], grpc.Channel]]:
    """The address of a server, and a channel to it that trusts the certificate as it is now."""
    tls = TlsFiles(certificate=certificate, key=key)
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    with (
        started(server, tls=tls) as (host, port),
        grpc.secure_channel(f"{host}:{port}", trusted) as channel,
    ):
        yield (host, port), channel


def test_calls_may_be_encrypted(server: Listening, tmp_path: Path) -> None:
    with encrypted(server, *make_certificate(tmp_path)) as (_, channel):
        assert call(channel, "ServerLive").live


def test_calls_are_encrypted_by_the_newest_certificate_that_fits(
    server: Listening, tmp_path: Path
) -> None:
    """A replica showed the one it had started with, also once that had run out."""
    certificate, key = make_certificate(tmp_path)
    first = certificate.read_bytes()
    with encrypted(server, certificate, key) as (address, channel):

        def shown() -> bytes:
            return ssl.get_server_certificate(address).encode()

        assert call(channel, "ServerLive").live
        certificate.write_bytes(b"")
        assert shown() == first
        make_certificate(tmp_path)
        assert shown() == certificate.read_bytes() != first
        assert call(channel, "ServerLive").live


def test_beyond_its_connections_a_server_takes_none(server: Listening) -> None:
    with (
        started(server, limits=HttpLimits(max_connections=1)) as (host, port),
        grpc.insecure_channel(f"{host}:{port}") as channel,
    ):
        assert call(channel, "ServerLive").live
        with socket.create_connection((host, port), timeout=10.0) as other:
            assert other.recv(4096) == b""
        assert call(channel, "ServerLive").live


def test_clients_do_not_notice_that_a_connection_begins_anew(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.protocols.open_inference.grpc.server._AGE_S", 0.02)
    states: list[grpc.ChannelConnectivity] = []
    with connected(server) as channel:
        channel.subscribe(states.append)
        ask = channel.unary_unary(f"/{SERVICE}/ServerLive")
        while states.count(grpc.ChannelConnectivity.IDLE) < 5:
            for answer in [ask.future(b"", timeout=20.0) for _ in range(200)]:
                assert answer.result() == b"\x08\x01"
