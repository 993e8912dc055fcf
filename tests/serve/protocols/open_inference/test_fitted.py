from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.errors import RequestError
from raymlops.models import Field, Signature
from raymlops.serve.form import Form, form_of
from raymlops.serve.protocols.open_inference.ask import parse_infer
from raymlops.serve.protocols.open_inference.fitted import fitted_reader

INPUTS = (
    Field(name="temp", datatype="FP64", low=-100.0, high=100.0),
    Field(name="carrier", datatype="BYTES"),
    Field(name="hour", datatype="INT8", low=0.5, high=23.9),
    Field(name="wind", datatype="FP32", nullable=True),
    Field(name="cancelled", datatype="BOOL"),
    Field(name="plane", datatype="BYTES", nullable=True),
)
OUTPUTS = (Field(name="probability", datatype="FP32"),)
FORM = Form(Signature(inputs=INPUTS, outputs=OUTPUTS))


def tensor(name: str, datatype: str, value: Any, shape: Any = (1,)) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": [value]}


def row(**changes: Any) -> dict[str, Any]:
    """A good request of one row, with some values or tensors replaced."""
    values = {"temp": 1.5, "carrier": "UA", "hour": 7, "wind": None, "cancelled": False}
    values |= {"plane": None} | changes
    tensors = [
        value if isinstance(value, dict) else tensor(field.name, field.datatype, value)
        for field, value in zip(INPUTS, values.values(), strict=True)
    ]
    return {"id": "a", "inputs": tensors}


def outcome(document: Any, form: Form, likely: Form | None) -> object:
    """What is read, or why nothing is."""
    try:
        columns = parse_infer(json.dumps(document).encode(), likely=likely).columns(form)
    except RequestError as error:
        return error.message
    return {name: repr(column) for name, column in sorted(columns.items())}


def is_fitted(document: Any, form: Form = FORM) -> bool:
    reader = fitted_reader(form)
    return reader is not None and reader.read(json.dumps(document).encode()) is not None


def test_a_row_that_is_what_the_signature_says_is_read_at_once() -> None:
    reader = fitted_reader(FORM)
    assert reader is not None
    found = reader.read(json.dumps(row(temp=2, wind=3.25)).encode())
    assert found is not None
    envelope, columns = found
    assert (envelope.id, envelope.parameters, envelope.outputs) == ("a", None, None)
    read = {name: column.tolist() for name, column in columns.items()}
    assert read == {
        "temp": [2.0], "carrier": ["UA"], "hour": [7.0], "wind": [3.25], "cancelled": [0.0],
        "plane": [None],
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"temp": 100.1}, {"temp": "1.5"}, {"temp": True}, {"temp": None}, {"carrier": None},
        {"carrier": 1}, {"hour": 0}, {"hour": 24}, {"hour": 7.0}, {"hour": True}, {"cancelled": 0},
        {"temp": tensor("temp", "FP64", 1.5, [1, 1])}, {"temp": tensor("temp", "FP64", 1.5, [2])},
        {"temp": tensor("temp", "INT8", 1)}, {"hour": tensor("hour", "INT16", 7)},
        {"temp": tensor("warmth", "FP64", 1.5)},
        {"temp": tensor("temp", "FP64", 1.5) | {"parameters": {}}},
    ],
)  # fmt: skip
def test_whatever_differs_is_left_to_others(changes: dict[str, Any]) -> None:
    assert is_fitted(row())
    assert not is_fitted(row(**changes))


_values = st.floats(-101, 101) | st.integers(-1, 130) | st.sampled_from([None, True, "1", 1e300])
_shapes = st.sampled_from([[1], [1, 1], [2], [1.0], [True], 1, []])


def _tensors(name: str, *datatypes: str) -> st.SearchStrategy[Any]:
    types = st.sampled_from(datatypes)
    plain = st.builds(tensor, st.just(name), types, _values)
    return _values | plain | st.builds(tensor, st.just(name), types, _values, _shapes)


@given(
    st.builds(
        row,
        temp=_tensors("temp", "FP64", "FP16", "INT8"),
        carrier=st.text(max_size=2) | st.none(),
        hour=_tensors("hour", "INT8", "UINT8", "FP64"),
        wind=_tensors("wind", "FP32", "FP64"),
        cancelled=st.booleans() | st.integers(0, 1),
        plane=st.text(max_size=2) | st.none(),
    )
)
def test_it_is_read_as_it_would_be_without_a_likely_form(document: Any) -> None:
    assert outcome(document, FORM, FORM) == outcome(document, FORM, None)


def test_a_version_of_another_signature_reads_it_anew() -> None:
    wider = Form(
        Signature(
            inputs=(Field(name="temp", datatype="FP64", high=1.0), *INPUTS[1:]), outputs=OUTPUTS
        )
    )
    assert outcome(row(), wider, FORM) == ("field 'temp': row 0 is 1.5; it must be at most 1")
    assert outcome(row(temp=0.5), wider, FORM) == outcome(row(temp=0.5), FORM, FORM)


def test_versions_of_equal_signatures_share_a_form() -> None:
    assert form_of(Signature(inputs=INPUTS, outputs=OUTPUTS)) is form_of(
        Signature(inputs=INPUTS, outputs=OUTPUTS)
    )


@pytest.mark.parametrize("datatype", ["INT64", "UINT64"])
def test_whole_numbers_of_64_bits_are_read_alike(datatype: Any) -> None:
    form = Form(Signature(inputs=(Field(name="n", datatype=datatype),), outputs=OUTPUTS))
    least = 0 if datatype == "UINT64" else -1
    for value in (0, -1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**70):
        document = {"id": "a", "inputs": [tensor("n", datatype, value)]}
        assert is_fitted(document, form) == (least <= value < 2**53)
        assert outcome(document, form, form) == outcome(document, form, None)


@pytest.mark.parametrize("bounds", [{"low": 1e19}, {"high": -1e19}])
def test_bounds_that_msgspec_cannot_be_told_are_left_to_others(bounds: dict[str, float]) -> None:
    form = Form(Signature(inputs=(Field(name="n", datatype="UINT64", **bounds),), outputs=OUTPUTS))
    assert fitted_reader(form) is None


def test_rows_of_shape_are_not_its_affair() -> None:
    field = Field(name="pixels", datatype="FP32", shape=(2,))
    assert fitted_reader(Form(Signature(inputs=(field,), outputs=OUTPUTS))) is None


def test_numbers_at_the_ends_are_read_alike() -> None:
    form = Form(Signature(inputs=(Field(name="x", datatype="FP64"),), outputs=OUTPUTS))
    largest = repr(float(np.finfo(np.float64).max))
    for text in (largest, "-1e-320", "-0.0", "-0", "1e400", "9" * 400, str(2**64 + 1)):
        body = b'{"id":"a","inputs":[{"name":"x","datatype":"FP64","shape":[1],"data":[%b]}]}'

        def read(likely: Form | None, body: bytes = body % text.encode()) -> object:
            try:
                return repr(parse_infer(body, likely=likely).columns(form)["x"])
            except RequestError as error:
                return error.message

        assert read(form) == read(None), text
