from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import Column
from raymlops.errors import RequestError
from raymlops.models import Field, Signature
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.ask import parse_infer
from raymlops.serve.web import Response

NOW = datetime(2013, 7, 1, tzinfo=UTC)
SIGNATURE = Signature(
    inputs=(
        Field(name="temp", datatype="FP64", low=-100.0, high=100.0),
        Field(name="wind", datatype="FP64", nullable=True),
        Field(name="carrier", datatype="BYTES", nullable=True),
    ),
    outputs=(Field(name="probability", datatype="FP32"), Field(name="late", datatype="BOOL")),
)


FORM = Form(SIGNATURE)


def tensor(name: str, data: Any, datatype: str = "FP64", shape: Any = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def request(**changes: Any) -> dict[str, Any]:
    """A good request of two rows, with some inputs (by name) or members replaced."""
    inputs = {
        "temp": tensor("temp", [1.5, 2]),
        "wind": tensor("wind", [None, 3.0]),
        "carrier": tensor("carrier", ["AA", None], "BYTES"),
    }
    named = {name: changes.pop(name) for name in list(changes) if name in inputs}
    return {"inputs": list((inputs | named).values())} | changes


def read(document: Any) -> Mapping[str, Column]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_infer(body).columns(FORM)


def answer(document: Any, outputs: dict[str, Any], arm: str = "champion") -> Response:
    parsed = parse_infer(orjson.dumps(document))
    return parsed.encode(Result("flights", "1.0.0", arm, FORM, outputs))


def refusal(document: Any) -> str:
    with pytest.raises(RequestError) as refused:
        read(document)
    assert refused.value.status == 400
    return refused.value.message


def test_columns_are_read_with_null_as_missing() -> None:
    columns = read(request())
    np.testing.assert_array_equal(columns["temp"], [1.5, 2.0])
    np.testing.assert_array_equal(columns["wind"], [np.nan, 3.0])
    assert columns["carrier"].tolist() == ["AA", None]


def test_a_column_may_be_a_matrix_of_one_column_flat_or_nested() -> None:
    for data in ([1.0, 2.0], [[1.0], [2.0]]):
        columns = read(request(temp=tensor("temp", data, shape=[2, 1])))
        assert columns["temp"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("datatype", ["INT8", "INT64", "UINT16", "FP32"])
def test_numbers_of_any_type_fit_a_number(datatype: str) -> None:
    assert read(request(temp=tensor("temp", [1, 2], datatype)))["temp"].tolist() == [1.0, 2.0]


NO_DOUBLE = "a whole number that no double holds:"
EXACT = [2**53 - 1, 2**53, 2**62, -(2**63), 1e18, None]


@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize("value", EXACT)
def test_whole_numbers_that_a_double_holds_are_taken(value: Any, num_rows: int) -> None:
    form = Form(Signature(inputs=(Field(name="n", datatype="INT64", nullable=True),), outputs=()))
    body = orjson.dumps({"inputs": [tensor("n", [value] * num_rows, "INT64")]})
    column = parse_infer(body, likely=form).columns(form)["n"]
    np.testing.assert_array_equal(column, [np.nan if value is None else float(value)] * num_rows)


@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize(
    ("datatype", "value", "problem"),
    [
        ("INT64", 2**53 + 1, f"{NO_DOUBLE} 9007199254740993, the nearest is 9007199254740992"),
        ("INT64", -(2**53) - 1, f"{NO_DOUBLE} -9007199254740993, the nearest is -9007199254740992"),
        ("INT64", 2**63 - 1, f"{NO_DOUBLE} 9223372036854775807, the nearest is {2**63}"),
        ("INT64", 2**63, "9223372036854775808, beyond the range of INT64"),
        ("UINT64", 2**64 - 1, f"{NO_DOUBLE} 18446744073709551615, the nearest is {2**64}"),
        ("UINT64", 2**64, "18446744073709551616, beyond the range of UINT64"),
    ],
)
def test_whole_numbers_that_no_double_holds_are_refused(
    datatype: Any, value: int, problem: str, num_rows: int
) -> None:
    # They were rounded, and 2**63 was taken for an INT64.
    form = Form(Signature(inputs=(Field(name="n", datatype=datatype),), outputs=()))
    data = [*[1] * (num_rows - 1), value]
    body = json.dumps({"inputs": [tensor("n", data, datatype)]}).encode()
    with pytest.raises(RequestError) as refused:
        parse_infer(body, likely=form).columns(form)
    assert refused.value.message == f"field 'n': row {num_rows - 1} is {problem}"


def test_a_number_of_one_type_is_held_against_the_range_of_another() -> None:
    form = Form(Signature(inputs=(Field(name="n", datatype="INT64"),), outputs=()))
    body = orjson.dumps({"inputs": [tensor("n", [2**63], "UINT64")]})
    with pytest.raises(RequestError, match=r"row 0 is 9\.22337e\+18; it must be at most 9\.22337e"):
        parse_infer(body).columns(form)


@pytest.mark.parametrize("datatype", ["INT64", "FP64"])
def test_a_field_of_doubles_takes_the_nearest(datatype: str) -> None:
    document = request(wind=tensor("wind", [2**53 + 1, 2**63 - 1], datatype))
    assert read(document)["wind"].tolist() == [2.0**53, 2.0**63]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "INT8", "FP64"])
def test_values_that_are_all_missing_fit_any_field(datatype: str) -> None:
    # Whoever has nothing but missing values cannot tell of what type they are.
    nothing = {name: tensor(name, [None, None], datatype) for name in ("wind", "carrier")}
    columns = read(request(**nothing))
    np.testing.assert_array_equal(columns["wind"], [np.nan, np.nan])
    assert columns["carrier"].tolist() == [None, None]


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


def test_nan_is_missing_where_that_is_allowed() -> None:
    columns = read(request(wind=tensor("wind", [float("nan"), 1.0])))
    np.testing.assert_array_equal(columns["wind"], [np.nan, 1.0])
    nan = refusal(request(temp=tensor("temp", [float("nan"), 1.0])))
    assert nan == "field 'temp': row 0 is nan; it may not be missing or NaN"


@pytest.mark.parametrize("literal", ["Infinity", "-Infinity", "1e999"])
def test_infinity_is_refused_by_name(literal: str) -> None:
    body = json.dumps(request(wind=tensor("wind", [7777, 1.0]))).replace("7777", literal).encode()
    assert refusal(body).endswith("inf; it must be finite")


def test_text_that_is_not_unicode_is_refused_by_name() -> None:
    body = request(carrier=tensor("carrier", ["A", "\ud800"], "BYTES"))
    assert refusal(body) == "field 'carrier': row 1 is not valid Unicode"


def test_the_envelope_has_defaults() -> None:
    about = parse_infer(orjson.dumps(request(id="r-1"))).about
    assert (about.id, about.key, about.event_time) == ("r-1", "r-1", None)
    parameters = {"key": "anna", "event_time": "2013-07-01T02:00:00+02:00"}
    about = parse_infer(orjson.dumps(request(parameters=parameters))).about
    assert (about.key, about.event_time) == ("anna", NOW)
    other = parse_infer(orjson.dumps(request())).about
    assert about.id != other.id
    assert len(other.id) == 32


def test_a_request_may_be_urgent_and_wait_no_longer_than_it_says() -> None:
    parameters = {"timeout": 250_000, "priority": 1}
    about = parse_infer(orjson.dumps(request(parameters=parameters))).about
    assert (about.timeout_s, about.priority) == (0.25, 9)
    later = parse_infer(orjson.dumps(request(parameters={"priority": 9}))).about
    usual = parse_infer(orjson.dumps(request(parameters={"priority": 0, "timeout": 0}))).about
    assert about.priority > later.priority > usual.priority == 0
    assert usual.timeout_s is None


def test_an_answer_is_written_as_the_protocol_wants_it() -> None:
    outputs = {"probability": np.array([0.1, np.nan], np.float32), "late": np.array([True, False])}
    assert json.loads(answer(request(id="r-1"), outputs, arm="canary").body) == {
        "model_name": "flights",
        "model_version": "1.0.0",
        "id": "r-1",
        "parameters": {"arm": "canary"},
        "outputs": [
            {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.1, None]},
            {"name": "late", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        ],
    }


def test_an_answer_holds_the_outputs_that_were_asked_for() -> None:
    outputs = {"probability": np.zeros(2, np.float32), "late": np.zeros(2, bool)}
    body = answer(request(outputs=[{"name": "late"}]), outputs).body
    assert [output["name"] for output in json.loads(body)["outputs"]] == ["late"]


_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["temp", "wind", "carrier", "FP64", "BYTES", "INT8"])
)
_json = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text()
            | st.sampled_from(["id", "parameters", "key", "event_time", "name", "shape", "data"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["temp", "wind", "carrier"]) | _json,
        "datatype": st.sampled_from(["FP64", "BYTES", "INT8", "UINT64", "BOOL"]) | _json,
        "shape": st.lists(st.integers(-1, 3), max_size=2) | _json,
        "data": st.lists(_scalars, max_size=3) | _json,
    },
)
_requests = st.fixed_dictionaries(
    {"inputs": st.lists(_tensors, max_size=4) | _json},
    optional={"id": _json, "parameters": _json, "outputs": _json},
)


@given(
    st.binary()
    | _json.map(lambda document: json.dumps(document).encode())
    | _requests.map(lambda document: json.dumps(document).encode())
)
def test_anything_at_all_is_read_or_refused_as_the_clients_fault(body: bytes) -> None:
    try:
        SIGNATURE.check(read(body))
    except RequestError as error:
        Response.refusal(error)
        assert error.status == 400  # noqa: PT017 - a good body raises nothing, so no `raises`


def _pairs(values: st.SearchStrategy[Any], name: str, *datatypes: str) -> st.SearchStrategy[Any]:
    """Tensors of two rows or nearly so."""
    data = st.lists(values, min_size=2, max_size=2) | st.lists(values, max_size=3)
    shape = st.just([2]) | st.sampled_from([[1], [2.0], [True], [2, 1], [2, 1.0], [1, 2], 2])
    return st.builds(tensor, st.just(name), data, st.sampled_from(datatypes), shape)


_numbers = st.floats(-101, 101) | st.integers(-101, 101) | st.sampled_from([None, True, "1", 1e300])
_nearly_right = st.builds(
    request,
    temp=_pairs(_numbers, "temp", "FP64", "FP64", "INT8", "FP32"),
    wind=_pairs(_numbers, "wind", "FP64"),
    carrier=_pairs(st.text(max_size=2) | st.none(), "carrier", "BYTES"),
)


def _in_any_order(document: Any) -> st.SearchStrategy[Any]:
    return st.permutations(document["inputs"]).map(lambda inputs: document | {"inputs": inputs})


@given(_requests | _nearly_right | _nearly_right.flatmap(_in_any_order))
def test_the_quick_way_reads_what_the_long_way_does(document: Any) -> None:
    body = json.dumps(document).encode()
    assert outcome(body, FORM) == outcome(body, SLOW)


def outcome(body: bytes, form: Form) -> object:
    try:
        columns = parse_infer(body).columns(form)
    except RequestError as error:
        return error.message
    return {name: repr(column) for name, column in sorted(columns.items())}


class _Slow(Form):
    """Looks at every field."""

    def read(self, values: Any, num_rows: int) -> None:
        return None


SLOW = _Slow(SIGNATURE)
