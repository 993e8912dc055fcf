"""The gRPC service by grpc's own client, and its messages beside those that protoc made."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from raymlops.data import take
from raymlops.errors import ClusterError
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import BatchPolicy
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.http import HttpLimits
from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference.grpc import GrpcServer
from raymlops.serve.protocols.open_inference.grpc.messages import (
    SERVICE,
    request_class,
    response_class,
)
from raymlops.serve.protocols.open_inference.grpc.proto import parse_proto
from raymlops.serve.versions.arms import Arms
from raymlops.serve.web import Request, Response
from tests.serve.conftest import MODEL, read_columns
from tests.serve.door.conftest import certificate, make_certificate
from tests.serve.protocols.conftest import Listening
from tests.servers import triton_client

__all__ = ["certificate"]

_PROTOC_MADE = (
    "import sys; from google.protobuf.descriptor_pb2 import FileDescriptorProto; "
    "from tritonclient.grpc import service_pb2; file = FileDescriptorProto(); "
    "service_pb2.DESCRIPTOR.CopyToProto(file); "
    "sys.stdout.buffer.write(file.SerializeToString())"
)


_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_AGREED = b"\0\0\0\4\1\0\0\0\0"
"""Of HTTP/2, what a client says first, and that it has taken the server's settings."""


@pytest.fixture(scope="module")
def channel(server: Listening) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def call(channel: grpc.Channel, method: str, timeout_s: float = 20.0, **members: Any) -> Any:
    ask = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=request_class(method).SerializeToString,
        response_deserializer=response_class(method).FromString,
    )
    return ask(request_class(method)(**members), timeout=timeout_s)


def refusal(channel: grpc.Channel, method: str, **members: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, method, **members)
    return refused.value.code(), refused.value.details()


def typed(num_rows: int = 2, **changes: Any) -> list[dict[str, Any]]:
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


def test_messages_are_those_that_protoc_made() -> None:
    done = subprocess.run(
        [triton_client.python(), "-c", _PROTOC_MADE], capture_output=True, check=True
    )
    theirs = FileDescriptorProto.FromString(done.stdout)
    known = {message.name: message for message in theirs.message_type}
    methods = {method.name: method for method in theirs.service[0].method}
    file = FileDescriptorProto()
    request_class("ModelInfer").DESCRIPTOR.file.CopyToProto(file)
    assert file.package == theirs.package
    metadata = next(each for each in file.message_type if each.name == "ModelMetadataResponse")
    assert metadata.nested_type[0].field.pop().name == "parameters"  # MLServer's, not Triton's
    metadata.nested_type[0].nested_type.clear()
    for message in file.message_type:
        wanted = known[message.name]
        fields = {field.name: field for field in wanted.field}
        assert [fields[field.name] for field in message.field] == list(message.field)
        assert list(message.nested_type) == [
            each
            for each in wanted.nested_type
            if each.name in {nested.name for nested in message.nested_type}
        ]
        assert message.oneof_decl == wanted.oneof_decl
    for method in file.service[0].method:
        assert (method.input_type, method.output_type) == (
            methods[method.name].input_type,
            methods[method.name].output_type,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enum A { B = 0; }", "'enum' is not expected"),
        ("message A { int64 b 1; }", "'1' where '=' belongs"),
        ("service S { stream A }", "'stream' in service S"),
    ],
)
def test_a_proto_beyond_the_parser_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_proto(text, "x.proto")


def test_a_call_goes_on_under_the_trace_of_who_sent_it(
    server: Listening, channel: grpc.Channel
) -> None:
    trace_id, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    ask = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=request_class("ModelInfer").SerializeToString,
        response_deserializer=response_class("ModelInfer").FromString,
    )

    def told(header: str, request_id: str) -> tuple[dict[str, Any], Any]:
        """(what comes back beside the answer, the trace that logs and spans are told of)."""
        message = request_class("ModelInfer")(model_name=MODEL, inputs=typed(), id=request_id)
        metadata = (("traceparent", header),)
        _, finished = ask.with_call(message, timeout=20.0, metadata=metadata)
        server.run(asyncio.sleep(0.01))  # they hear of it after the answer
        (exchange,) = [each for each in server.exchanges if each.id == request_id]
        return dict(finished.trailing_metadata()), exchange.trace

    came, trace = told(f"00-{trace_id}-{caller}-01", "traced")
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (trace_id, caller, True)
    assert came["traceparent"] == f"00-{trace_id}-{trace.span_id}-01"
    assert told("00-nonsense-01", "untraced") == ({}, None)


def test_the_server_and_the_model_are_described(channel: grpc.Channel) -> None:
    assert call(channel, "ServerLive").live
    assert call(channel, "ServerReady").ready
    assert call(channel, "ServerMetadata").name == "raymlops"
    assert call(channel, "ModelReady", name=MODEL, version="1.0.1").ready
    assert not call(channel, "ModelReady", name=MODEL, version="7").ready
    found = call(channel, "ModelMetadata", name=MODEL)
    assert list(found.versions) == ["1.0.0", "1.0.1"]
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs][-1] == (
        "size",
        "BYTES",
        [-1],
    )
    index = call(channel, "RepositoryIndex").models
    assert [(each.name, each.state) for each in index] == [(MODEL, "READY")] * 2
    call(channel, "RepositoryModelLoad", model_name=MODEL)
    code, details = refusal(channel, "RepositoryModelUnload", model_name=MODEL)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "raymlops undeploy" in details


@pytest.mark.parametrize("raw", [True, False])
def test_answers_are_the_bundles(
    channel: grpc.Channel, bundles: dict[str, Bundle], raw: bool
) -> None:
    columns = take(read_columns()[0], slice(1, 41))
    inputs, members = typed(40), {}
    if raw:
        for tensor in inputs:
            del tensor["contents"]
        members["raw_input_contents"] = [
            b"".join(struct.pack("<I", len(text)) + text.encode() for text in column)
            if column.dtype == object
            else column.astype("<f8").tobytes()
            for column in columns.values()
        ]
    answer = call(channel, "ModelInfer", model_name=MODEL, id="r-1", inputs=inputs, **members)
    assert (answer.id, answer.model_version) == ("r-1", "1.0.0")
    assert answer.parameters["arm"].string_param == "champion"
    assert [(t.name, t.datatype, list(t.shape)) for t in answer.outputs] == [
        (PROBABILITY, "FP32", [40]),
        ("benign", "BOOL", [40]),
    ]
    wanted = bundles["1.0.0"].predict(columns)
    np.testing.assert_allclose(
        np.frombuffer(answer.raw_output_contents[0], "<f4"), wanted[PROBABILITY], rtol=1e-6
    )
    statistics = call(channel, "ModelStatistics", name=MODEL, version="1.0.0").model_stats[0]
    assert statistics.inference_stats.success.count >= 1
    assert statistics.inference_count >= 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": {"name": "radios"}}, "field 'radios': unknown; the model takes radius"),
        ({"radius": {"datatype": "BYTES"}}, "field 'radius': has datatype 'BYTES', not FP64"),
        ({"radius": {"shape": [3]}}, "field 'radius': has 2 values, its shape says [3]"),
        ({"radius": {"shape": [-1]}}, "field 'radius': has no rows"),
        ({"radius": {"datatype": "FP16"}}, "field 'radius': FP16 can only be sent as raw"),
        (
            {"radius": {"datatype": "INT8", "contents": {"int_contents": [1, 300]}}},
            "field 'radius': row 1 is 300, beyond the range of INT8",
        ),
        (
            {"radius": {"contents": {"fp64_contents": [1.0, float("inf")]}}},
            "field 'radius': row 1 is inf",
        ),
        (
            {"size": {"contents": {"bytes_contents": [b"a", b"\xff"]}}},
            "field 'size': text 1 is not UTF-8",
        ),
        (
            {"size": {"parameters": {"shared_memory_region": {"string_param": "r"}}}},
            "field 'size': is in shared memory",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    channel: grpc.Channel, changes: Any, message: str
) -> None:
    code, details = refusal(channel, "ModelInfer", model_name=MODEL, inputs=typed(**changes))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in details


@pytest.mark.parametrize("asked", ["classification", "shared_memory_region"])
def test_an_output_in_a_way_that_is_not_offered_is_refused(
    channel: grpc.Channel, asked: str
) -> None:
    """It was told as ever, which clients took for scores by class, or did not find."""
    output = {"name": "probability", "parameters": {asked: {"int64_param": 2}}}
    code, details = refusal(
        channel, "ModelInfer", model_name=MODEL, inputs=typed(), outputs=[output]
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("output 'probability': ")


def test_what_is_not_here_has_a_code_of_its_own(channel: grpc.Channel) -> None:
    code, details = refusal(channel, "ModelInfer", model_name="other", inputs=typed())
    assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no model 'other' is deployed here")
    code, _ = refusal(channel, "ModelInfer", model_name=MODEL, model_version="7", inputs=typed())
    assert code is grpc.StatusCode.NOT_FOUND
    code, details = refusal(
        channel, "ModelInfer", model_name=MODEL, inputs=typed(), raw_input_contents=[b""]
    )
    assert details == "there are 1 raw_input_contents for 4 inputs"
    code, _ = refusal(channel, "ModelInfer", model_name=MODEL, id="x" * 2_000_000)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("members", "where"),
    [
        ({"id": "r\0"}, "id"),
        ({"parameters": {"key": {"string_param": "r\0"}}}, "parameters.key"),
    ],
)
def test_an_id_that_not_every_ledger_holds_is_refused(
    channel: grpc.Channel, members: Any, where: str
) -> None:
    code, details = refusal(channel, "ModelInfer", model_name=MODEL, inputs=typed(), **members)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == f"{where} holds the control character '\\x00'; leave such ones out"


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady"])
@pytest.mark.parametrize("message", [b"\xff\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f"])
def test_what_is_no_message_is_the_callers_fault(
    server: Listening,
    channel: grpc.Channel,
    method: str,
    message: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.exchanges.clear()
    ask = channel.unary_unary(f"/{SERVICE}/{method}")
    with pytest.raises(grpc.RpcError) as refused:
        ask(message, timeout=20.0)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith(f"this is no {method}Request: ")
    assert [exchange.status for exchange in server.exchanges] == [400]
    assert caplog.messages == []


def test_an_output_is_written_once(channel: grpc.Channel) -> None:
    twice = [{"name": PROBABILITY}] * 2
    code, details = refusal(channel, "ModelInfer", model_name=MODEL, inputs=typed(), outputs=twice)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == f"output '{PROBABILITY}': asked for twice"


def test_a_deadline_that_has_passed_is_told(server: Listening, channel: grpc.Channel) -> None:
    deadline_passed = threading.Event()
    server.loop.call_soon_threadsafe(deadline_passed.wait, 30.0)  # nothing is answered until then
    try:
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, "ModelInfer", timeout_s=0.05, model_name=MODEL, inputs=typed())
    finally:
        deadline_passed.set()
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("service", [b"", SERVICE.encode()])
def test_a_probe_that_speaks_grpc_alone_is_told_who_serves(
    channel: grpc.Channel, service: bytes
) -> None:
    ask = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert ask(b"\x0a" + bytes([len(service)]) + service, timeout=20.0) == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as refused:
        ask(b"\x0a\x05other", timeout=20.0)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_probe_is_told_of_a_model_that_is_not_ready(server: Listening) -> None:
    idle = Inference("idle", Arms({}.__getitem__, BatchPolicy()), lambda _: None)
    own = GrpcServer(idle, limits=HttpLimits())
    port = server.run(own.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20.0) == b"\x08\x02"
    server.run(own.stop(0.0))


def test_a_call_without_a_key_is_refused_before_it_is_read(server: Listening) -> None:
    def admit(request: Request) -> Response | None:
        if request.path == "/v2/health/live" or request.headers.get("x-api-key") == "k":
            return None
        return Response.error(401, "no key")

    async def start() -> tuple[GrpcServer, int]:
        own = GrpcServer(server.inference, limits=HttpLimits(), admit=admit)
        return own, await own.start("127.0.0.1", 0)

    own, port = server.run(start())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert call(channel, "ServerLive").live
        code, details = refusal(channel, "ModelInfer", model_name=MODEL, inputs=typed())
        assert (code, details) == (grpc.StatusCode.UNAUTHENTICATED, "no key")
        assert (server.exchanges[-1].status, server.exchanges[-1].error) == (401, "no key")
        ask = channel.unary_unary(
            f"/{SERVICE}/ModelReady",
            request_serializer=request_class("ModelReady").SerializeToString,
            response_deserializer=response_class("ModelReady").FromString,
        )
        request = request_class("ModelReady")(name=MODEL)
        assert ask(request, metadata=(("x-api-key", "k"),), timeout=10.0).ready
    server.run(own.stop(0.0))


def test_an_address_that_is_taken_is_told(server: Listening) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own = GrpcServer(server.inference, limits=HttpLimits())
        with pytest.raises(ClusterError, match=f"gRPC cannot listen on 127.0.0.1:{port}"):
            server.run(own.start("127.0.0.1", port))
        server.run(own.stop(0.0))


def test_calls_may_be_encrypted(server: Listening, certificate: tuple[Path, Path]) -> None:
    async def start() -> tuple[GrpcServer, int]:
        tls = TlsFiles(certificate=certificate[0], key=certificate[1])
        own = GrpcServer(server.inference, limits=HttpLimits(), tls=tls)
        return own, await own.start("127.0.0.1", 0)

    own, port = server.run(start())
    trusted = grpc.ssl_channel_credentials(certificate[0].read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        assert call(channel, "ServerLive").live
    server.run(own.stop(0.0))


def test_calls_are_encrypted_by_the_newest_certificate_that_fits(
    server: Listening, tmp_path: Path
) -> None:
    """A replica showed the one it had started with, also once that had run out."""
    certificate, key = make_certificate(tmp_path)

    async def start() -> tuple[GrpcServer, int]:
        tls = TlsFiles(certificate=certificate, key=key)
        own = GrpcServer(server.inference, limits=HttpLimits(), tls=tls)
        return own, await own.start("127.0.0.1", 0)

    def shown() -> bytes:
        return ssl.get_server_certificate(("127.0.0.1", port)).encode()

    own, port = server.run(start())
    first = certificate.read_bytes()
    trusted = grpc.ssl_channel_credentials(first)
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        assert call(channel, "ServerLive").live
        certificate.write_bytes(b"")
        assert shown() == first
        make_certificate(tmp_path)
        assert shown() == certificate.read_bytes() != first
        assert call(channel, "ServerLive").live
    server.run(own.stop(0.0))


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
    [b"", _GREETING[:10], _GREETING, _GREETING + _AGREED],
    ids=["nothing", "half a greeting", "no word after it", "no call"],
)
def test_who_says_nothing_is_not_waited_for(server: Listening, said: bytes) -> None:
    """Who had agreed on settings could keep any number of connections for ever."""
    limits = HttpLimits(head_timeout_s=0.1, idle_timeout_s=0.1)
    own = GrpcServer(server.inference, limits=limits)
    port = server.run(own.start("127.0.0.1", 0))
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
        client.sendall(said)
        while client.recv(4096):
            pass
    server.run(own.stop(0.0))


def never() -> Iterator[bytes]:
    """The messages of a client that has begun a call, and says no more for a while."""
    threading.Event().wait(10.0)
    yield b""


def test_a_message_without_an_end_is_not_waited_for(server: Listening) -> None:
    limits = HttpLimits(body_timeout_s=0.1, idle_timeout_s=0.1)
    own = GrpcServer(server.inference, limits=limits)
    port = server.run(own.start("127.0.0.1", 0))
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
        client.sendall(_GREETING + _AGREED + beginning_of_a_call())
        told = b""
        while more := client.recv(4096):
            told += more
    assert b"the message took over 0.1 s" in told
    server.run(own.stop(0.0))


def test_of_many_messages_without_an_end_few_are_waited_for(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection filled the memory of a replica with messages that were not complete."""
    monkeypatch.setattr("raymlops.serve.protocols.open_inference.grpc.receiving._MOST_SLOW", 2)
    monkeypatch.setattr("raymlops.serve.protocols.open_inference.grpc.receiving._HURRIED_S", 0.1)
    own = GrpcServer(server.inference, limits=HttpLimits())
    port = server.run(own.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.stream_unary(f"/{SERVICE}/ServerLive")
        slow = [ask.future(never(), timeout=30.0) for _ in range(2)]
        with pytest.raises(grpc.RpcError) as refused:
            ask(never(), timeout=30.0)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "too many messages are being received"
        assert call(channel, "ServerLive").live
        assert not any(each.done() for each in slow)
        for each in slow:
            each.cancel()
    server.run(own.stop(0.0))


def test_who_has_no_key_is_refused_before_a_message_came(server: Listening) -> None:
    own = GrpcServer(
        server.inference, limits=HttpLimits(), admit=lambda _: Response.error(401, "no key")
    )
    port = server.run(own.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(f"/{SERVICE}/ModelInfer")(never(), timeout=5.0)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    server.run(own.stop(0.0))


def test_beyond_its_connections_a_server_takes_none(server: Listening) -> None:
    own = GrpcServer(server.inference, limits=HttpLimits(max_connections=1))
    port = server.run(own.start("127.0.0.1", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert call(channel, "ServerLive").live
        with socket.create_connection(("127.0.0.1", port), timeout=10.0) as other:
            assert other.recv(4096) == b""
        assert call(channel, "ServerLive").live
    server.run(own.stop(0.0))


def test_a_burst_of_calls_is_answered(server: Listening, channel: grpc.Channel) -> None:
    """Of those beyond 1,000 some were cancelled, by nobody as it seemed to their client."""
    ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    body = request_class("ModelInfer")(model_name=MODEL, inputs=typed()).SerializeToString()
    calls = [ask.future(body, timeout=60.0) for _ in range(4000)]
    assert Counter(each.code() for each in calls) == {grpc.StatusCode.OK: 4000}


def test_clients_do_not_notice_that_a_connection_begins_anew(
    server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.serve.protocols.open_inference.grpc.server._AGE_S", 0.02)
    own = GrpcServer(server.inference, limits=HttpLimits())
    port = server.run(own.start("127.0.0.1", 0))
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.subscribe(states.append)
        ask = channel.unary_unary(f"/{SERVICE}/ServerLive")
        while states.count(grpc.ChannelConnectivity.IDLE) < 5:
            for answer in [ask.future(b"", timeout=20.0) for _ in range(200)]:
                assert answer.result() == b"\x08\x01"
    server.run(own.stop(0.0))
