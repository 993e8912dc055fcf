"""Clients that leave a server waiting."""

from __future__ import annotations

import socket
import struct

import grpc
import pytest

from raymlops.serve.http import HttpLimits
from raymlops.serve.protocols.open_inference.grpc.messages import SERVICE
from tests.serve.load import eventually
from tests.serve.protocols.conftest import Listening
from tests.serve.protocols.open_inference.grpc.calling import call, connected, never, started

# Of HTTP/2, what a client says first, and that it has taken the server's settings.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
AGREED = b"\0\0\0\4\1\0\0\0\0"


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    """A frame of HTTP/2, of the first call."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, 1) + payload


def beginning_of_a_call() -> bytes:
    """Its head, and the first byte of a message of 100."""
    head = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/ModelInfer",
        ":authority": "server",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    written = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in head.items()
    )
    return frame(1, 4, written) + frame(0, 0, b"\0\0\0\0\x64!")


@pytest.mark.parametrize(
    "said",
    [b"", GREETING[:10], GREETING, GREETING + AGREED],
    ids=["nothing", "half a greeting", "no word after it", "no call"],
)
def test_who_says_nothing_is_not_waited_for(server: Listening, said: bytes) -> None:
    """Who had agreed on settings could keep any number of connections for ever."""
    limits = HttpLimits(head_timeout_s=0.1, idle_timeout_s=0.1)
    with (
        started(server, limits=limits) as address,
        socket.create_connection(address, timeout=10.0) as client,
    ):
        client.sendall(said)
        while client.recv(4096):
            pass


def test_a_message_without_an_end_is_not_waited_for(server: Listening) -> None:
    limits = HttpLimits(body_timeout_s=0.1, idle_timeout_s=0.1)
    with (
        started(server, limits=limits) as address,
        socket.create_connection(address, timeout=10.0) as client,
    ):
        client.sendall(GREETING + AGREED + beginning_of_a_call())
        told = b""
        while more := client.recv(4096):
            told += more
    assert b"the message took over 0.1 s" in told


def test_of_many_messages_without_an_end_few_are_waited_for(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection filled the memory of a replica with messages that were not complete."""
    monkeypatch.setattr("raymlops.serve.protocols.open_inference.grpc.receiving._MOST_SLOW", 2)
    monkeypatch.setattr("raymlops.serve.protocols.open_inference.grpc.receiving._HURRIED_S", 0.1)
    with connected(server) as channel:
        ask = channel.stream_unary(f"/{SERVICE}/ServerLive")
        calls = [ask.future(never(), timeout=30.0) for _ in range(3)]
        eventually(lambda: any(each.done() for each in calls))
        (refused,) = [each for each in calls if each.done()]  # whichever came last
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.details() == "too many messages are being received"
        assert call(channel, "ServerLive").live
        assert sum(each.done() for each in calls) == 1
        for each in calls:
            each.cancel()
