from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data import Feature, TableSchema, between, read_columns
from raymlops.errors import DataError

FEATURES = (
    Feature(name="x", kind="number", max_missing=0.5),
    Feature(name="c", kind="category", max_missing=0.5),
)


def test_columns_hold_nan_and_none_where_values_are_missing() -> None:
    table = pa.table({"x": [1, None, 3], "c": ["a", None, "b"]})
    columns = read_columns(table, FEATURES)
    np.testing.assert_array_equal(columns["x"], [1.0, np.nan, 3.0])
    assert columns["c"].tolist() == ["a", None, "b"]


def test_whole_numbers_beyond_those_of_floats_are_read_as_the_nearest() -> None:
    table = pa.table({"x": [2**53 + 1, 2**60 + 1, None], "c": ["a", "b", "c"]})
    assert read_columns(table, FEATURES)["x"][:2].tolist() == [2.0**53, 2.0**60]
    unsigned = table.set_column(0, "x", table["x"].cast(pa.uint64()))
    assert read_columns(unsigned, FEATURES)["x"][:2].tolist() == [2.0**53, 2.0**60]


def test_dictionary_columns_are_categories() -> None:
    table = pa.table({"x": [1.0], "c": pa.array(["a"]).dictionary_encode()})
    assert read_columns(table, FEATURES)["c"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"c": ["a"]}), "column 'x' is missing; the table has c"),
        (pa.table({"x": ["high"], "c": ["a"]}), "column 'x' has type string, not number"),
    ],
)
def test_a_table_of_another_shape_is_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_columns(table, FEATURES)


def test_between_takes_the_start_and_leaves_the_end() -> None:
    times = [datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    table = pa.table({"t": pa.array(times, pa.timestamp("us", tz="UTC")), "n": [1, 2, 3]})
    assert between(table, "t", times[0], times[2])["n"].to_pylist() == [1, 2]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_between_without_a_start_takes_all_before_the_end(unit: str) -> None:
    """The year 1, which once stood for the beginning, is none that nanoseconds reach."""
    times = [datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    table = pa.table({"t": pa.array(times, pa.timestamp(unit, tz="UTC")), "n": [1, 2, 3]})
    assert between(table, "t", None, times[2])["n"].to_pylist() == [1, 2]


def make(**changes: object) -> TableSchema:
    values: dict[str, object] = {
        "dataset": "d",
        "target": "y",
        "event_time": "t",
        "features": FEATURES,
    }
    return TableSchema(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ()}, "declares no features"),
        ({"features": FEATURES + FEATURES}, "features declared twice: c, x"),
        ({"target": "x"}, "the target 'x' is among the features; it would leak"),
        (
            {"features": (Feature(name="score", kind="number"),)},
            "a feature is called 'score', as the model's own output is",
        ),
        ({"task": "ranking"}, "task is 'ranking', not 'classification' or 'regression'"),
        (
            {"task": "regression", "classes": ("a", "b")},
            "task is 'regression', and there are 2 classes: a number is of no class",
        ),
    ],
)
def test_a_contradictory_schema_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_contradictory_feature_is_refused() -> None:
    with pytest.raises(ValueError, match="low 2 is above high 1"):
        Feature(name="x", kind="number", low=2, high=1)
    for bounds in ({"low": math.nan}, {"high": math.nan}, {"low": 0, "high": math.nan}):
        with pytest.raises(ValueError, match="or one is no number"):  # nothing was refused by it
            Feature(name="x", kind="number", **bounds)
    with pytest.raises(ValueError, match="x is a category; low and high are for numbers"):
        Feature(name="x", kind="category", low=2)
    with pytest.raises(ValueError, match="max_missing is 2, not within 0 and 1"):
        Feature(name="x", kind="number", max_missing=2)
