"""Calls by grpc's own client, and servers beside the one that all tests share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from raymlops.data import take
from raymlops.serve.http import HttpLimits
from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference.grpc import GrpcServer
from raymlops.serve.protocols.open_inference.grpc.messages import (
    SERVICE,
    request_class,
    response_class,
)
from tests.serve.conftest import read_columns
from tests.serve.protocols.conftest import Listening


@contextmanager
def started(
    server: Listening, inference: Inference | None = None, **options: Any
) -> Iterator[tuple[str, int]]:
    """The address of a server on the event loop of `server`, of its model unless told."""
    own = GrpcServer(inference or server.inference, **{"limits": HttpLimits()} | options)
    try:
        yield "127.0.0.1", server.run(own.start("127.0.0.1", 0))
    finally:
        server.run(own.stop(0.0))


@contextmanager
def connected(
    server: Listening, inference: Inference | None = None, **options: Any
) -> Iterator[grpc.Channel]:
    """To a server as `started` makes it."""
    with (
        started(server, inference, **options) as (host, port),
        grpc.insecure_channel(f"{host}:{port}") as channel,
    ):
        yield channel


def asker(channel: grpc.Channel, method: str) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=request_class(method).SerializeToString,
        response_deserializer=response_class(method).FromString,
    )


def call(channel: grpc.Channel, method: str, timeout_s: float = 20.0, **members: Any) -> Any:
    return asker(channel, method)(request_class(method)(**members), timeout=timeout_s)


def refusal(channel: grpc.Channel, method: str, **members: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, method, **members)
    return refused.value.code(), refused.value.details()


def typed(num_rows: int = 2, **changes: Any) -> list[dict[str, Any]]:
    """Inputs of as many rows, with members of some (by name) replaced."""
    columns = take(read_columns()[0], slice(1, 1 + num_rows))
    tensors = {
        name: {
            "name": name,
            "datatype": "BYTES" if name == "size" else "FP64",
            "shape": [num_rows],
            "contents": {"bytes_contents": [value.encode() for value in column]}
            if name == "size"
            else {"fp64_contents": column.tolist()},
        }
        for name, column in columns.items()
    }
    return [tensor | changes.get(name, {}) for name, tensor in tensors.items()]


def never() -> Iterator[bytes]:
    """The messages of a client that has begun a call, and says no more for a while."""
    threading.Event().wait(10.0)
    yield b""
