"""Inputs of any length, in every protocol's JSON."""

from __future__ import annotations

from typing import Any

import pytest

from raymlops.data import FREE
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field, Signature
from raymlops.serve.form import Form
from raymlops.serve.protocols.open_inference.describe import tensor_metadata
from raymlops.serve.protocols.openapi.schemas import value
from raymlops.serve.protocols.shapes import read_shape
from raymlops.serve.protocols.values import columns_of_records

TOKENS = Field(name="tokens", datatype="INT64", shape=(FREE,), low=0, high=99)
FORM = Form(Signature(inputs=(TOKENS,), outputs=()))


def columns(*rows: Any) -> Any:
    return columns_of_records([{"tokens": row} for row in rows], FORM, is_strict=True)["tokens"]


def test_requests_are_of_any_length() -> None:
    assert columns([1, 2, 3]).tolist() == [[1, 2, 3]]
    assert columns([1], [2]).tolist() == [[1], [2]]
    assert read_shape(TOKENS, [2, 7]).of_column == (2, 7)
    assert tensor_metadata(TOKENS)["shape"] == [-1, -1]
    schema = value(TOKENS)
    assert (schema["minItems"], "maxItems" in schema) == (1, False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [3]], "row 1 has 1 values, row 0 has 2; those of one request have the same num"),
        ([[]], "row 0 has 0 values"),
        ([[1, 2], 3], "row 1 is a whole number, not a list"),
        (["ab"], "row 0 is 'ab', not a list"),
        ([[100]], r"row 0 has 100 at \[0\]; it must be at most 99"),
        ([[[1]]], r"row 0 at \[0\] is a list, not INT64"),
    ],
)
def test_what_is_no_row_is_named(rows: list[Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        columns(*rows)


@pytest.mark.parametrize("shape", [[2, 0], [2], [2, 3, 1], [2, -1]])
def test_other_ranks_are_refused(shape: list[int]) -> None:
    with pytest.raises(SignatureError, match=r"its shape is not \[rows, -1\], but"):
        read_shape(TOKENS, shape)


def test_the_first_size_alone_is_free() -> None:
    assert not Field(name="x", datatype="FP32", shape=(3,)).is_free
    for shape in ((3, FREE), (0,), (-2,)):
        with pytest.raises(ValueError, match="sizes are positive, or the first is -1, free"):
            Field(name="x", datatype="FP32", shape=shape)
