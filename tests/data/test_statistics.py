from __future__ import annotations

import math
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_wine

from raymlops.data.statistics import ColumnStatistics, Statistics
from raymlops.demo.flights import load_flights

NEXT = "1970-01-01T00:00:02+00:00"


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return load_flights()


def statistics(table: pa.Table, chunk: int = 1 << 16) -> dict[str, ColumnStatistics]:
    found = Statistics(table.schema)
    for batch in table.to_batches(max_chunksize=chunk):
        found.feed(batch)
    assert found.num_rows == table.num_rows
    return {column.name: column for column in found.columns()}


def assert_agrees_with_pandas(column: ColumnStatistics, series: pd.Series) -> None:
    assert (column.count, column.missing) == (series.count(), series.isna().sum())
    assert (column.min, column.max) == (series.min(), series.max())
    assert column.mean == pytest.approx(series.mean(), rel=1e-12)
    assert column.std == pytest.approx(series.std(), rel=1e-9)
    assert column.distinct == series.nunique()


def test_numbers_agree_with_pandas(flights: pa.Table) -> None:
    names = ["distance", "plane_year", "seats", "temp", "humid", "pressure", "late"]
    frame = flights.select(names).to_pandas()
    found = statistics(flights)
    for name in names:
        assert_agrees_with_pandas(found[name], frame[name])


def test_batches_of_any_size_give_the_same(flights: pa.Table) -> None:
    table = flights.select(["temp", "carrier", "scheduled_at"]).slice(0, 50_000)
    for chunk in (997, 50_000):
        found = statistics(table, chunk)
        assert found["carrier"] == statistics(table)["carrier"]
        assert found["temp"].mean == pytest.approx(statistics(table)["temp"].mean, rel=1e-12)


def test_categories_are_counted(flights: pa.Table) -> None:
    expected = flights["carrier"].to_pandas().value_counts()
    carrier = statistics(flights)["carrier"]
    assert carrier.distinct == 16
    assert carrier.top[:3] == (("UA", 57_782), ("B6", 54_049), ("EV", 51_108))
    assert dict(carrier.top) == expected.head(10).to_dict()


def test_a_dictionary_counts_as_its_values(flights: pa.Table) -> None:
    plain = flights.select(["carrier"])
    encoded = plain.set_column(0, "carrier", plain["carrier"].dictionary_encode())
    assert statistics(encoded)["carrier"].top == statistics(plain)["carrier"].top


def test_moments_survive_a_large_offset() -> None:
    values = load_wine().data[:, 0] + 1e9
    found = statistics(pa.table({"x": values}), 20)["x"]
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-6)


def test_what_is_not_finite_does_not_spoil_the_moments() -> None:
    column = pa.array([1.0, 3.0, math.inf, math.nan, None])
    found = statistics(pa.table({"x": column}))["x"]
    assert (found.count, found.missing, found.mean) == (3, 2, 2.0)
    assert (found.min, found.max) == (1.0, "inf")


def test_times_and_empty_columns_have_statistics() -> None:
    table = pa.table(
        {"d": [date(2013, 1, 1), None], "n": pa.nulls(2), "l": [[1], None], "b": [True, False]}
    )
    found = statistics(table)
    assert (found["d"].min, found["d"].max, found["d"].missing) == ("2013-01-01", "2013-01-01", 1)
    assert (found["n"].count, found["n"].missing) == (0, 2)
    assert (found["l"].count, found["l"].distinct) == (1, None)
    assert found["b"].top == ((False, 1), (True, 1))


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        (pa.array(np.array([0.5, 2, np.nan], np.float16)), 0.5, 2.0),
        (pa.array([90, 1500, None], pa.duration("ms")), 0.09, 1.5),
        (pa.array([Decimal("0.50"), Decimal("2.00")], pa.decimal32(5, 2)), "0.50", "2.00"),
        (pa.array([2, 300_000_000_000], pa.timestamp("s", "UTC")), NEXT, "11476-08-15 05:20:00Z"),
        (pa.array([-80_000_000_000, 2], pa.timestamp("s")), "-0566-11-26 01:46:40", NEXT[:-6]),
        (pa.array([3, 4_000_000], pa.date32()), "1970-01-04", "12921-08-18"),
        (pa.array([2, 2**62], pa.duration("s")), 2.0, str(2**62)),
        (pa.array([1, 2, None], pa.time64("ns")), "00:00:00", "00:00:00"),
    ],
    ids=lambda each: str(each.type) if isinstance(each, pa.Array) else "",
)
def test_bounds_are_told_of_types_that_python_or_arrow_cannot_order(
    column: pa.Array, low: object, high: object
) -> None:
    """One column of these ended `data add`, needed by the model or not."""
    found = statistics(pa.table({"x": column}), chunk=1)["x"]
    assert (found.min, found.max, found.distinct) == (low, high, 2)


def test_intervals_have_no_order() -> None:
    column = pa.array([(1, 2, 3), (1, 2, 4)], pa.month_day_nano_interval())
    found = statistics(pa.table({"x": column}))["x"]
    assert (found.count, found.min, found.distinct) == (2, None, None)


def test_identifiers_are_not_counted_without_bound() -> None:
    found = statistics(pa.table({"id": [f"row {row}" for row in range(20_000)]}), 4_000)["id"]
    assert (found.count, found.distinct, found.top) == (20_000, None, ())


def test_statistics_survive_their_json() -> None:
    for column in statistics(pa.table({"x": [1.0, None], "s": ["a", "b"]})).values():
        assert ColumnStatistics.from_dict(column.to_dict()) == column
