"""What is answered over gRPC, by grpc's own client."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from typing import Any

import grpc
import numpy as np
import pytest

from raymlops.data import take
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve.protocols.open_inference.grpc.messages import (
    SERVICE,
    request_class,
)
from tests.serve.conftest import MODEL, read_columns
from tests.serve.load import eventually
from tests.serve.protocols.conftest import Listening
from tests.serve.protocols.open_inference.grpc.calling import asker, call, refusal, typed


def test_a_call_goes_on_under_the_trace_of_who_sent_it(
    server: Listening, channel: grpc.Channel
) -> None:
    trace_id, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    ask = asker(channel, "ModelInfer")

    def told(header: str, request_id: str) -> tuple[dict[str, Any], Any]:
        """(what comes back beside the answer, the trace that logs and spans are told of)."""
        message = request_class("ModelInfer")(model_name=MODEL, inputs=typed(), id=request_id)
        metadata = (("traceparent", header),)
        _, finished = ask.with_call(message, timeout=20.0, metadata=metadata)
        # They hear of it after the answer.
        eventually(lambda: any(each.id == request_id for each in server.exchanges))
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


def test_a_deadline_that_has_passed_is_told(server: Listening, channel: grpc.Channel) -> None:
    deadline_passed = threading.Event()
    server.loop.call_soon_threadsafe(deadline_passed.wait, 30.0)  # nothing is answered until then
    try:
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, "ModelInfer", timeout_s=0.05, model_name=MODEL, inputs=typed())
    finally:
        deadline_passed.set()
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_burst_of_calls_is_answered(server: Listening, channel: grpc.Channel) -> None:
    """Of those beyond 1,000 some were cancelled, by nobody as it seemed to their client."""
    ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    body = request_class("ModelInfer")(model_name=MODEL, inputs=typed()).SerializeToString()
    calls = [ask.future(body, timeout=60.0) for _ in range(4000)]
    assert Counter(each.code() for each in calls) == {grpc.StatusCode.OK: 4000}
