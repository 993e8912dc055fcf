"""Numbers of one type for a field of another, and what no double holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

from raymlops.errors import RequestError
from raymlops.models import Field, Signature
from raymlops.serve.form import Form
from raymlops.serve.protocols.open_inference.ask import parse_infer
from tests.serve.protocols.open_inference.documents import read, request, tensor


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
