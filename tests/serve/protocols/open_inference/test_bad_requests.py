from __future__ import annotations

from typing import Any

import pytest

from tests.serve.protocols.open_inference.documents import refusal, request, tensor


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temp": tensor("tmep", [1, 2])}, "'tmep': unknown; the model takes carrier, temp, wind"),
        ({"temp": tensor("wind", [1, 2])}, "'wind': given twice"),
        ({"temp": tensor("temp", [1, 2], "BYTES")}, "'temp': has datatype 'BYTES', not FP64"),
        ({"temp": tensor("temp", [1, 2], "BOOL")}, "'temp': has datatype 'BOOL', not FP64"),
        ({"temp": tensor("temp", [1, 2], ["FP64"])}, "'temp': has datatype a list, not FP64"),
        ({"wind": tensor("wind", [None] * 2, "FP65")}, "'wind': has datatype 'FP65', not FP64"),
        ({"temp": tensor("temp", [None] * 2, "BYTES")}, "'temp': row 0 is nan; it may not be"),
        ({"carrier": tensor("carrier", [1, 2])}, "'carrier': has datatype 'FP64', not BYTES"),
        ({"carrier": tensor("carrier", [1, "a"], "BYTES")}, "'carrier': row 0 is a whole number"),
        ({"temp": tensor("temp", [1, "2"])}, "'temp': row 1 is '2', not FP64"),
        ({"temp": tensor("temp", [True, 2])}, "'temp': row 0 is True, not FP64"),
        ({"temp": tensor("temp", [1, 2.5], "INT64")}, "'temp': row 1 is 2.5, not INT64"),
        ({"temp": tensor("temp", [1, 300], "INT8")}, "'temp': row 1 is 300, beyond the range of"),
        ({"temp": tensor("temp", [1, -1], "UINT8")}, "'temp': row 1 is -1, beyond the range of"),
        ({"temp": tensor("temp", [1, 101])}, "'temp': row 1 is 101; it must be at most 100"),
        ({"temp": tensor("temp", [1, None])}, "'temp': row 1 is nan; it may not be missing or NaN"),
        ({"temp": tensor("temp", [1, 10**400])}, "'temp': holds a number beyond the range of FP64"),
        (
            {"temp": tensor("temp", [1, 2, 3], shape=[2])},
            "'temp': has 3 values, its shape says [2]",
        ),
        ({"temp": tensor("temp", [1, 2, 3])}, "'wind': has 2 rows, 'temp' has 3"),
        (
            {"temp": tensor("temp", [1, 2], shape=[2, 2])},
            "'temp': its shape is neither [rows] nor [rows, 1]",
        ),
        ({"temp": tensor("temp", [1, 2], shape=[True])}, "'temp': its shape is no list of whole"),
        ({"temp": tensor("temp", [1, 2], shape="2")}, "'temp': its shape is no list of whole"),
        ({"temp": tensor("temp", [1, 2], shape=[10**400])}, "'temp': has 2 values, its shape"),
        ({"wind": tensor("wind", [1, 2], shape=[2.0])}, "'wind': its shape is no list of whole"),
        ({"wind": tensor("wind", [1, 2], shape=[2, 10**400])}, "but [2, a huge number]"),
        ({"temp": tensor("temp", [[1], [2, 3]], shape=[2, 1])}, "'temp': its data is ragged"),
        ({"temp": tensor("temp", [[1], 2], shape=[2, 1])}, "'temp': its data is ragged"),
        ({"temp": tensor("temp", [[[1]], [[2]]], shape=[2, 1])}, "'temp': row 0 is a list"),
        ({"temp": tensor("temp", "12")}, "'temp': has no data"),
        ({"carrier": tensor("carrier", "AB", "BYTES")}, "'carrier': has no data"),
        ({"temp": {"name": "temp", "datatype": "FP64", "shape": [2]}}, "'temp': has no data"),
        ({"temp": tensor("temp", [], shape=[0])}, "'temp': has no rows"),
        ({"inputs": []}, "'temp': missing"),
        ({"inputs": [3]}, "inputs holds a whole number where an object belongs"),
        ({"inputs": {}}, "inputs is an object, not a list"),
        ({"inputs": [{"name": 3}]}, "inputs.name is a whole number, not text"),
        ({"id": 7}, "id is a whole number, not text"),
        ({"id": "x" * 257}, "id has 257 characters, over 256"),
        ({"parameters": {"key": None}}, "parameters.key is None, not text"),
        ({"parameters": {"event_time": "yesterday"}}, "parameters.event_time is 'yesterday'"),
        ({"parameters": {"event_time": "2013-07-01T12:00:00"}}, "parameters.event_time is '2013"),
        ({"parameters": {"event_time": "0001-01-01T00:00:00+05:00"}}, "parameters.event_time is"),
        ({"parameters": {"event_time": "1969-07-20T20:17:00Z"}}, "not a time from 1970 to 2200"),
        ({"parameters": {"event_time": "9999-12-31T00:00:00Z"}}, "not a time from 1970 to 2200"),
        ({"parameters": {"event_time": 7}}, "parameters.event_time is a whole number"),
        ({"parameters": {"timeout": -1}}, "parameters.timeout is a whole number, not microseconds"),
        ({"parameters": {"timeout": 1.5}}, "parameters.timeout is 1.5, not microseconds up to"),
        ({"parameters": {"priority": 10}}, "parameters.priority is a whole number, not within 0"),
        ({"outputs": [{"name": "prob"}]}, "output 'prob': unknown"),
        (
            {"outputs": [{"name": "late", "parameters": {"shared_memory_region": "r"}}]},
            "output 'late': shared memory is not offered",
        ),
        ({"outputs": [{"name": "late"}] * 2}, "output 'late': asked for twice"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(request(**changes))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body holds a list where an object belongs"),
        (b'{"inputs": [' + b"[" * 900 + b"]" * 900 + b"]}", "inputs holds a list"),
        (b'{"id": "\\ud800", "inputs": []}', "id is not valid Unicode"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, message: str) -> None:
    assert message in refusal(body)
