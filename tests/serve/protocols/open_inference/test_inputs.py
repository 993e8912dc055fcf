from __future__ import annotations

import json

import numpy as np
import pytest

from tests.serve.protocols.open_inference.documents import read, refusal, request, tensor


def test_columns_are_read_with_null_as_missing() -> None:
    columns = read(request())
    np.testing.assert_array_equal(columns["temp"], [1.5, 2.0])
    np.testing.assert_array_equal(columns["wind"], [np.nan, 3.0])
    assert columns["carrier"].tolist() == ["AA", None]


def test_a_column_may_be_a_matrix_of_one_column_flat_or_nested() -> None:
    for data in ([1.0, 2.0], [[1.0], [2.0]]):
        columns = read(request(temp=tensor("temp", data, shape=[2, 1])))
        assert columns["temp"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL", "INT8", "FP64"])
def test_values_that_are_all_missing_fit_any_field(datatype: str) -> None:
    # Whoever has nothing but missing values cannot tell of what type they are.
    nothing = {name: tensor(name, [None, None], datatype) for name in ("wind", "carrier")}
    columns = read(request(**nothing))
    np.testing.assert_array_equal(columns["wind"], [np.nan, np.nan])
    assert columns["carrier"].tolist() == [None, None]


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
