from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raymlops.serve.caching import digest_of, digest_of_columns


@dataclass(frozen=True)
class Point:
    x: float
    y: float


def column(*values: Any, dtype: Any = np.float64) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.array(values, dtype=dtype)}


def test_arrays_that_print_alike_have_keys_of_their_own() -> None:
    first = np.zeros(10_000)
    second = first.copy()
    second[5000] = 1.0
    assert str(first) == str(second)
    assert digest_of_columns({"x": first}) != digest_of_columns({"x": second})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (column(0.0), column(-0.0)),
        (column(1.0), column(1.0, dtype=np.float32)),
        (column(1, dtype=np.int64), column(1, dtype=np.uint64)),
        (column(1.0, 2.0), {"x": np.array([[1.0, 2.0]])}),
        (column("ab", "c", dtype=object), column("a", "bc", dtype=object)),
        (column(None, dtype=object), column("None", dtype=object)),
        (column("", dtype=object), column(dtype=object)),
        ({"x": np.ones(1), "y": np.zeros(1)}, {"x": np.zeros(1), "y": np.ones(1)}),
        ({"ab": np.ones(1)}, {"a": np.ones(1)}),
    ],
)
def test_what_a_model_could_tell_apart_has_keys_of_its_own(one: Any, other: Any) -> None:
    assert digest_of_columns(one) != digest_of_columns(other)


def test_nan_is_nan_and_order_of_names_and_memory_do_not_count() -> None:
    payload = np.array([0x7FF8000000000123], dtype=np.uint64).view(np.float64)
    assert digest_of_columns({"x": payload}) == digest_of_columns(column(np.nan))
    matrix = np.arange(6.0).reshape(2, 3)
    one = {"x": matrix, "y": np.ones(2)}
    other = {"y": np.ones(4)[::2], "x": np.asfortranarray(matrix)}
    assert digest_of_columns(one) == digest_of_columns(other)


arrays = hnp.arrays(
    dtype=st.sampled_from([np.float64, np.float32, np.int64, np.bool_]),
    shape=hnp.array_shapes(min_dims=1, max_dims=2, max_side=4),
)


@given(one=arrays, other=arrays)
def test_keys_are_equal_exactly_when_type_shape_and_bytes_are(
    one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]
) -> None:
    def identity(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
        return array.dtype.str, array.shape, array.tobytes()

    same = identity(one) == identity(other)
    assert (digest_of_columns({"x": one}) == digest_of_columns({"x": other})) == same
    assert (digest_of(one) == digest_of(other)) == same


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(one=plain, other=plain)
def test_plain_values_have_equal_keys_exactly_when_they_are_the_same(one: Any, other: Any) -> None:
    def identity(value: Any) -> Any:
        if isinstance(value, dict):
            return "dict", frozenset((key, identity(each)) for key, each in value.items())
        if isinstance(value, list):
            return "list", tuple(map(identity, value))
        return type(value), value

    assert (digest_of(one) == digest_of(other)) == (identity(one) == identity(other))


def test_numbers_of_different_types_differ() -> None:
    values = [
        1,
        1.0,
        True,
        np.float32(1),
        np.float64(1),
        "1",
        b"1",
        None,
        -0.0,
        0.0,
        0.1 + 0.2,
        0.3,
    ]
    assert len({digest_of(value) for value in values}) == len(values)
    assert digest_of(float("nan")) == digest_of(-float("nan"))


def test_structured_arrays_count_by_their_fields() -> None:
    """Long ones were hashed by what numpy prints of them."""
    wide = np.zeros(1, dtype=[("a", "f8", (2000,))])
    other = wide.copy()
    other["a"][0, 1000] = 1.0
    assert digest_of(wide) != digest_of(other)
    assert digest_of(wide[0]) != digest_of(other[0])
    assert digest_of(wide[0]) == digest_of(wide.copy()[0]) != digest_of(wide)

    loose = np.dtype([("flag", "?"), ("x", "f8"), ("who", "O")], align=True)
    rows, same = np.empty(2, loose), np.ones(2, loose)
    rows[:] = same[:] = [(True, np.nan, "a"), (False, 1.0, "b")]
    assert digest_of(rows) == digest_of(same)
    same["who"][1] = "c"
    assert digest_of(rows) != digest_of(same)
    renamed = wide.view([("b", "f8", (2000,))])
    assert digest_of(wide) != digest_of(renamed)
    assert digest_of(np.void(b"ab")) != digest_of(np.void(b"ac"))


def test_a_list_is_no_tuple() -> None:
    assert digest_of([1, 2]) != digest_of((1, 2))


def test_dataclasses_count_by_their_fields() -> None:
    assert digest_of(Point(1.0, 2.0)) == digest_of(Point(1.0, 2.0))
    assert digest_of(Point(1.0, 2.0)) != digest_of(Point(2.0, 1.0))


def test_what_has_no_canonical_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match=r"builtins\.object has no canonical bytes; pass plain"):
        digest_of([object()])
    with pytest.raises(TypeError, match=r"MaskedArray has no canonical bytes"):
        digest_of(np.ma.array([1.0, 2.0], mask=[False, True]))
