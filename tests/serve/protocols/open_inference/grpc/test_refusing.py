"""What does not fit is refused with a code and where it is."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from raymlops.models import PROBABILITY
from raymlops.serve.protocols.open_inference.grpc.messages import SERVICE
from tests.serve.conftest import MODEL
from tests.serve.protocols.conftest import Listening
from tests.serve.protocols.open_inference.grpc.calling import refusal, typed


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
