"""Binary tensors, written here by numpy and struct, as a client does."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data import Column
from raymlops.errors import RequestError
from raymlops.models import Field, Signature
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.open_inference.ask import OpenInferenceAsk, parse_infer

FORM = Form(
    Signature(
        inputs=(
            Field(name="x", datatype="FP64", low=-1e9, high=1e9, nullable=True),
            Field(name="text", datatype="BYTES"),
            Field(name="image", datatype="FP32", shape=(2, 2)),
        ),
        outputs=(
            Field(name="score", datatype="FP16"),
            Field(name="label", datatype="BYTES"),
            Field(name="late", datatype="BOOL"),
        ),
    )
)
IMAGES = np.arange(8, dtype="<f4").reshape(2, 2, 2)


def texts(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def tensor(name: str, datatype: str, shape: list[int], data: bytes) -> tuple[dict[str, Any], bytes]:
    head = {"name": name, "datatype": datatype, "shape": shape}
    return head | {"parameters": {"binary_data_size": len(data)}}, data


GOOD = {
    "x": tensor("x", "FP64", [2], np.array([1.5, np.nan]).tobytes()),
    "text": tensor("text", "BYTES", [2, 1], texts("Zürich".encode(), b"")),
    "image": tensor("image", "FP32", [2, 2, 2], IMAGES.tobytes()),
}


def parse(*tensors: tuple[dict[str, Any], bytes], **members: Any) -> OpenInferenceAsk:
    inputs = [head for head, _ in tensors]
    head = json.dumps({"id": "r-1", "inputs": inputs} | members).encode()
    body = b"".join((head, *(data for _, data in tensors)))
    return parse_infer(body, json_length=str(len(head)))


def read(**changes: tuple[dict[str, Any], bytes]) -> Mapping[str, Column]:
    return parse(*(GOOD | changes).values()).columns(FORM)


def refusal(**changes: tuple[dict[str, Any], bytes]) -> str:
    with pytest.raises(RequestError) as refused:
        read(**changes)
    assert refused.value.status == 400
    return refused.value.message


def test_values_are_read_as_they_were_written() -> None:
    columns = read()
    np.testing.assert_array_equal(columns["x"], [1.5, np.nan])
    assert columns["text"].tolist() == ["Zürich", ""]
    np.testing.assert_array_equal(columns["image"], IMAGES)
    assert columns["image"].shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        ("BOOL", "?", [True, False]),
        ("UINT8", "u1", [0, 255]),
        ("UINT16", "<u2", [0, 65535]),
        ("UINT32", "<u4", [0, 2**32 - 1]),
        ("UINT64", "<u8", [0, 2**53]),
        ("INT8", "i1", [-128, 127]),
        ("INT16", "<i2", [-32768, 32767]),
        ("INT32", "<i4", [-(2**31), 2**31 - 1]),
        ("INT64", "<i8", [-(2**53), 2**53]),
        ("FP16", "<f2", [0.5, -65504.0]),
        ("FP32", "<f4", [0.1, -3e38]),
        ("FP64", "<f8", [0.1, 1e300]),
    ],
)
def test_every_datatype_goes_in_and_out(datatype: Any, dtype: str, values: list[Any]) -> None:
    signature = Signature(
        inputs=(Field(name="v", datatype=datatype),), outputs=(Field(name="v", datatype=datatype),)
    )
    form = Form(signature)
    sent = np.array(values, dtype)
    ask = parse(tensor("v", datatype, [2], sent.tobytes()), parameters={"binary_data_output": True})
    column = ask.columns(form)["v"]
    np.testing.assert_array_equal(column, sent.astype(np.float64))
    response = ask.encode(Result("m", "1.0.0", "champion", form, {"v": column}))
    assert response.body.endswith(sent.tobytes())


@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize(
    ("datatype", "dtype", "value"),
    [("INT64", "<i8", 2**53 + 1), ("INT64", "<i8", 1 - 2**63), ("UINT64", "<u8", 2**64 - 1)],
)
def test_whole_numbers_that_no_double_holds_are_refused(
    datatype: Any, dtype: str, value: int, num_rows: int
) -> None:
    form = Form(Signature(inputs=(Field(name="v", datatype=datatype),), outputs=()))
    sent = np.array([*[1] * (num_rows - 1), value], dtype)
    problem = f"row {num_rows - 1} is a whole number that no double holds: {value}, the nearest"
    with pytest.raises(RequestError, match=problem):
        parse(tensor("v", datatype, [num_rows], sent.tobytes())).columns(form)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (tensor("x", "FP64", [2], b"\0" * 15), "'x': has 15 bytes, FP64 of shape [2] has 16"),
        (tensor("x", "FP32", [2], b"\0" * 16), "'x': has 16 bytes, FP32 of shape [2] has 8"),
        (tensor("x", "BYTES", [2], texts(b"1", b"2")), "'x': has datatype 'BYTES', not FP64"),
        (tensor("x", "FP64", [2], np.array([1.0, np.inf]).tobytes()), "'x': row 1 is inf"),
        (tensor("x", "FP64", [2], np.array([1.0, 2e9]).tobytes()), "'x': row 1 is 2e+09"),
        (tensor("x", "FP64", [3], np.zeros(3).tobytes()), "'text': has 2 rows, 'x' has 3"),
        (tensor("x", "FP64", [2**62], b""), "'x': has 0 bytes, FP64 of shape"),
        (tensor("text", "BYTES", [2], texts(b"a")), "'text': its 5 bytes cannot hold 2 texts"),
        (tensor("text", "BYTES", [1], texts(b"a") + b"xy"), "'text': 2 bytes follow its 1 texts"),
        (
            tensor("text", "BYTES", [2], texts(b"abcd") + b"\1\0"),
            "'text': text 1 ends 2 bytes after the data",
        ),
        (
            tensor("text", "BYTES", [2], b"\xff\xff\xff\xff0000"),
            "'text': text 0 ends 4294967291 bytes after the data",
        ),
        (tensor("text", "BYTES", [2], texts(b"\xff", b"")), "'text': text 0 is not UTF-8"),
        (tensor("text", "BYTES", [2**62], b""), "'text': its 0 bytes cannot hold"),
        (tensor("image", "FP32", [2, 4], IMAGES.tobytes()), "'image': its shape is not [rows, 2"),
    ],
)
def test_bytes_that_do_not_fit_are_refused_by_name(change: Any, message: str) -> None:
    assert message in refusal(**{change[0]["name"]: change})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"binary_data_size": 17}, "'image': its binary_data_size is 17, but 16 bytes are left"),
        ({"binary_data_size": -1}, "'image': its binary_data_size is a whole number, not a"),
        ({"binary_data_size": "16"}, "'image': its binary_data_size is '16', not a number"),
        ({"shared_memory_region": "r"}, "'image': is in shared memory, which is not offered"),
        ([], "inputs.parameters holds a list"),
        ({"binary_data_size": 0}, "'image': has 0 bytes"),
    ],
)
def test_sizes_are_held_against_the_body(parameters: Any, message: str) -> None:
    image = {"name": "image", "datatype": "FP32", "shape": [1, 2, 2], "parameters": parameters}
    assert message in refusal(image=(image, b"\0" * 16))


def test_what_is_given_twice_or_left_over_is_refused() -> None:
    head, data = GOOD["x"]
    assert "'x': has both data and binary_data_size" in refusal(x=(head | {"data": [1, 2]}, data))
    assert refusal(image=(GOOD["image"][0], IMAGES.tobytes() + b"abc")) == (
        "3 bytes follow the last binary tensor"
    )


@pytest.mark.parametrize("length", ["-1", "1e3", "", "²", "9" * 30, "99999", "x" * 9999])
def test_a_length_of_the_json_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length is"):
        parse_infer(b"{}", json_length=length)


def test_an_answer_mixes_json_and_binary_as_asked() -> None:
    ask = parse(
        *GOOD.values(),
        outputs=[
            {"name": "late"},
            {"name": "label", "parameters": {"binary_data": True}},
            {"name": "score", "parameters": {"binary_data": True}},
        ],
    )
    outputs = {
        "score": np.array([0.5, 0.25], np.float32),
        "label": np.array(["on time", "spät"], dtype=object),
        "late": np.array([False, True]),
    }
    response = ask.encode(Result("flights", "1.0.0", "champion", FORM, outputs))
    assert response.content_type == "application/octet-stream"
    length = int(dict(response.headers)["inference-header-content-length"])
    answer = json.loads(response.body[:length])
    assert answer["outputs"] == [
        {"name": "late", "datatype": "BOOL", "shape": [2], "data": [False, True]},
        {
            "name": "label",
            "datatype": "BYTES",
            "shape": [2],
            "parameters": {"binary_data_size": 20},
        },
        {"name": "score", "datatype": "FP16", "shape": [2], "parameters": {"binary_data_size": 4}},
    ]
    assert response.body[length:] == texts(b"on time", "spät".encode()) + (
        np.array([0.5, 0.25], "<f2").tobytes()
    )


@given(body=st.binary(max_size=60), length=st.integers(0, 70))
def test_any_bytes_are_read_or_refused(body: bytes, length: int) -> None:
    head = json.dumps({"inputs": [tensor("text", "BYTES", [2], body)[0]]}).encode()
    for json_length in (length, len(head)):
        try:
            parse_infer(head + body, json_length=str(json_length)).columns(FORM)
        except RequestError as error:
            assert error.status == 400  # noqa: PT017 - it may also be well


class _Slow(Form):
    """Looks at every field."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature)
        self.is_flat = False


_FLAT = Signature(
    inputs=(
        Field(name="x", datatype="FP64", low=-10.0, high=10.0, nullable=True),
        Field(name="y", datatype="FP64"),
        Field(name="text", datatype="BYTES"),
    ),
    outputs=(),
)
_values = st.lists(st.floats(-11, 11) | st.just(float("nan")) | st.just(float("inf")), max_size=3)
_lengths = st.sampled_from([2, 2, 2, 1, 3])


@given(
    x=_values,
    y=_values,
    words=st.lists(st.text(max_size=2), max_size=3),
    rows=st.tuples(_lengths, _lengths),
)
def test_the_quick_way_reads_what_the_long_way_does(
    x: list[float], y: list[float], words: list[str], rows: tuple[int, int]
) -> None:
    tensors = (
        tensor("x", "FP64", [rows[0]], np.array(x, "<f8").tobytes()),
        tensor("y", "FP64", [rows[1]], np.array(y, "<f8").tobytes()),
        tensor("text", "BYTES", [rows[0]], texts(*(word.encode() for word in words))),
    )

    def outcome(form: Form) -> object:
        try:
            columns = parse(*tensors).columns(form)
        except RequestError as error:
            return error.message
        return {name: repr(column) for name, column in sorted(columns.items())}

    assert outcome(Form(_FLAT)) == outcome(_Slow(_FLAT))
