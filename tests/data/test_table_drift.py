"""Two tables held against each other, on the flights of winter and of summer."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.cluster import Session
from raymlops.data import open_source
from raymlops.data.distributions import Layout, LocalRows
from raymlops.data.ray_rows import RayRows
from raymlops.data.statistics import Statistics
from raymlops.data.table_drift import compare_tables
from raymlops.data.views import shared
from raymlops.demo.flights import load_flights
from raymlops.errors import DataError
from tests.data.compared import POLICY, drifted, rows


@pytest.fixture(scope="module")
def year() -> pa.Table:
    columns = ["carrier", "origin", "temp", "dewp", "distance", "seats", "late"]
    return load_flights().select(columns)


def test_a_table_is_like_itself_mixed_anew(year: pa.Table) -> None:
    order = np.random.default_rng(0).permutation(year.num_rows)
    found = compare_tables(
        rows(year.take(order[:20_000])), rows(year.take(order[20_000:26_000])), policy=POLICY
    )
    assert found.alike
    assert found.num_rows == (20_000, 6_000)
    assert all(sum(bar.after for bar in each.bars) == pytest.approx(1.0) for each in found.features)


def test_a_table_with_a_rhythm_is_like_itself() -> None:
    """Every 24th of hourly rows was held against all hours: the same file had drifted from itself,
    by 0.92 and for certain."""
    hour, rng = np.arange(120_000) % 24 * np.pi / 12, np.random.default_rng(0)
    hourly = {"temp": np.sin(hour), "load": np.cos(hour)}
    noisy = {name: values + 0.1 * rng.normal(size=hour.size) for name, values in hourly.items()}
    table = pa.table(noisy)
    found = compare_tables(rows(table), rows(table), policy=POLICY)
    assert found.alike
    assert found.together.effect < 0.05


def test_summer_is_warmer_than_winter_and_flown_by_the_same_carriers(year: pa.Table) -> None:
    found = compare_tables(rows(year[:20_000]), rows(year[160_000:180_000]), policy=POLICY)
    assert drifted(found)[:2] == ["temp", "dewp"]
    assert not {"carrier", "origin"} & set(drifted(found))
    assert found.drifted_together
    temp = next(each for each in found.features if each.verdict.feature == "temp")
    assert (temp.threshold, temp.verdict.test) == (0.02, "ks")
    warmest = temp.bars[-2]  # the last tenth of winter, before what is missing
    assert warmest.label.startswith("from ")
    assert (warmest.before, warmest.after) == (
        pytest.approx(0.1, abs=0.02),
        pytest.approx(1, abs=0.1),
    )


def test_new_rare_and_missing_categories_are_seen(year: pa.Table) -> None:
    before, after = year[:5_000], year[5_000:10_000]
    carriers = ["ZZ"] * 600 + [None] * 600 + after["carrier"].to_pylist()[1_200:]
    after = after.set_column(0, "carrier", pa.array(carriers))
    found = compare_tables(rows(before), rows(after), policy=POLICY, columns=["carrier"])
    (carrier,) = found.features
    assert carrier.verdict.drifted
    labels = {bar.label: bar.after for bar in carrier.bars}
    assert labels["missing"] == pytest.approx(0.12)
    assert labels["other"] > 0.12


def test_columns_that_came_went_or_turned_into_something_else_are_drift(year: pa.Table) -> None:
    after = year.drop(["dewp"]).append_column("gate", pa.array(["A1"] * year.num_rows))
    after = after.set_column(
        after.column_names.index("seats"), "seats", after["seats"].cast(pa.string())
    )
    found = compare_tables(rows(year[:2_000]), rows(after[:2_000]), policy=POLICY)
    assert [str(change) for change in found.changes] == [
        "dewp (double) is gone",
        "seats was double and is string",
        "gate is new (string)",
    ]
    assert not found.alike
    assert drifted(found) == []


def test_numbers_of_another_width_are_the_same_numbers(year: pa.Table) -> None:
    narrow = year.set_column(
        year.column_names.index("distance"), "distance", year["distance"].cast(pa.float32())
    )
    found = compare_tables(rows(year[:9_000]), rows(narrow[:9_000]), policy=POLICY)
    assert found.alike
    assert [str(change) for change in found.retyped] == ["distance was int64 and is float"]


def test_whole_numbers_that_have_become_floats_are_named() -> None:
    """So they often do once values are missing."""
    whole = pa.table({"seats": range(600), "temp": range(600)})
    found = compare_tables(
        rows(whole), rows(whole.set_column(0, "seats", whole["seats"].cast(pa.float64()))),
        policy=POLICY, columns=["seats"],
    )  # fmt: skip
    assert [str(change) for change in found.retyped] == ["seats was int64 and is double"]
    assert found.alike


def test_large_ids_are_numbers_as_others_are() -> None:
    """One column of them ended the whole comparison."""
    ids = 2**60 + np.random.default_rng(0).integers(0, 2**50, 2_000)
    table = pa.table({"booking": ids, "vector": np.stack([ids, ids], axis=1).tolist()})
    assert compare_tables(rows(table[:1_000]), rows(table[1_000:]), policy=POLICY).alike


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["seats"], "cannot compare seats: seats is double before and string after; a column must"),
        (["gate"], "gate is missing before and missing after"),
    ],
)
def test_a_column_that_cannot_be_compared_is_named(
    year: pa.Table, columns: list[str], message: str
) -> None:
    seats = year.column_names.index("seats")
    after = year.set_column(seats, "seats", year["seats"].cast(pa.string()))
    with pytest.raises(DataError, match=message):
        compare_tables(rows(year[:900]), rows(after[:900]), policy=POLICY, columns=columns)


def test_tables_with_nothing_in_common_cannot_be_compared(year: pa.Table) -> None:
    other = pa.table({"when": pa.array([1, 2], pa.timestamp("s"))})
    with pytest.raises(DataError, match=r"cannot compare any column: carrier is .* and missing"):
        compare_tables(rows(year), rows(other), policy=POLICY)


def test_too_few_rows_are_refused_with_both_numbers(year: pa.Table) -> None:
    with pytest.raises(DataError, match="have 1,000 and 499 rows; drift is judged from 500 on"):
        compare_tables(rows(year[:1_000]), rows(year[:499]), policy=POLICY)


def test_texts_are_compared_by_their_length() -> None:
    short = pa.table({"note": [f"flight {number}" for number in range(1_000)]})
    long = pa.table({"note": [None, *(f"flight {number} is late" for number in range(999))]})
    found = compare_tables(rows(short), rows(long), policy=POLICY)
    assert drifted(found) == ["note length"]
    assert found.drifted[0].bars[-1].label == "missing"


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)
def test_categories_are_compared_however_arrow_keeps_them(
    kind: pa.DataType, tmp_path: Path
) -> None:
    """A column of views was said to be of no kind that can be compared, and to take statistics of
    it broke."""
    path = tmp_path / "before.parquet"
    before = pa.table({"name": pa.array(["a", "b", None] * 1_000, kind)})
    after = rows(pa.table({"name": pa.array(["a", "b", "b"] * 1_000)}))
    pq.write_table(before, path)
    assert compare_tables(rows(before), after, policy=POLICY).features
    found = compare_tables(LocalRows(open_source(path)), after, policy=POLICY)
    statistics = Statistics(open_source(path).schema)
    for batch in open_source(path).batches():
        statistics.feed(batch)
    assert statistics.columns()[0].missing == 1_000
    assert drifted(found) == ["name"]
    assert found.features[0].verdict.effect == pytest.approx(1 / 3)


@pytest.mark.parametrize("order", [["title", "title length"], ["title length", "title"]])
def test_a_column_called_like_something_made_of_another_is_compared(order: list[str]) -> None:
    """Its values were replaced by the lengths of the texts, which had not moved."""
    rng = np.random.default_rng(0)

    def table(shift: float) -> pa.Table:
        titles = [f"title {number:05d}" for number in range(2_000)]
        columns = {"title": titles, "title length": rng.normal(size=2_000) + shift}
        return pa.table(columns).select(order)

    found = compare_tables(rows(table(0.0)), rows(table(5.0)), policy=POLICY)
    assert drifted(found) == ["title length"]
    assert {each.verdict.feature for each in found.features} == {
        "title length",
        "title length (of title)",
    }
    assert found.drifted_together


def test_what_is_not_compared_is_named() -> None:
    prices = pa.array([Decimal(row) for row in range(600)], pa.decimal128(10, 2))
    days = pa.array(range(600), pa.date32())
    before = pa.table({"price": prices, "day": days, "at": days, "temp": range(600)})
    after = before.set_column(2, "at", days.cast(pa.timestamp("s")))
    found = compare_tables(rows(before), rows(after), policy=POLICY)
    assert [each.verdict.feature for each in found.features] == ["price", "temp"]
    assert found.not_compared == ("day (date32[day])",)
    assert [change.column for change in found.changes] == ["at"]


def test_a_column_asked_for_twice_is_compared_once(year: pa.Table) -> None:
    few = rows(year[:600])
    found = compare_tables(few, few, policy=POLICY, columns=["temp", "temp"])
    assert [each.verdict.feature for each in found.features] == ["temp"]
    assert found.not_compared == ()


def test_columns_are_shared_when_they_are_compared_as_the_same() -> None:
    left = pa.schema(
        {"a": pa.int8(), "b": pa.string(), "c": pa.list_(pa.float32()), "d": pa.date32()}
    )
    right = pa.schema(
        {
            "a": pa.float64(),
            "b": pa.dictionary(pa.int8(), pa.string()),
            "c": pa.list_(pa.float64(), 3),
            "d": pa.date32(),
        }
    )
    assert shared(left, right) == ["a", "b", "c"]


@pytest.mark.cluster
def test_ray_compares_columns_of_views(ray_cluster: Session, tmp_path: Path) -> None:
    """A category in a column of views was not compared, the only one of a table was refused."""
    for file, names in (("before", ["a", "b"]), ("after", ["b", "b"])):
        name = pa.array(names * 1_000, pa.string_view())
        pq.write_table(pa.table({"name": name}), tmp_path / f"{file}.parquet")
    before, after = (
        RayRows.read(str(tmp_path / f"{each}.parquet")) for each in ("before", "after")
    )
    found = compare_tables(before, after, policy=POLICY)
    assert drifted(found) == ["name"]
    assert found.changes == found.retyped == ()
    assert 400 < before.sample(["name"], 500).num_rows < 600


@pytest.mark.cluster
def test_ray_counts_what_one_process_counts(
    ray_cluster: Session, year: pa.Table, tmp_path: Path
) -> None:
    import ray

    blocks = [ray.put(year[start : start + 5_000]) for start in range(0, 30_000, 5_000)]
    spread = RayRows(ray.data.from_arrow_refs(blocks))
    here = rows(year[:30_000])
    sample = here.sample(year.column_names, 10_000)
    layout = Layout.of(sample, year.column_names)
    np.testing.assert_array_equal(spread.count(layout), here.count(layout))
    some = spread.sample(["temp", "carrier"], 3_000)
    assert some.column_names == ["temp", "carrier"]
    assert 2_500 < some.num_rows < 3_500
    assert spread.sample(["temp"], 10**6).num_rows == 30_000
    pq.write_table(year[:2_000], tmp_path / "year.parquet")
    assert RayRows.read(str(tmp_path)).schema.names == year.column_names
    with pytest.raises(DataError, match=r"nowhere\.parquet cannot be read as Parquet"):
        RayRows.read(str(tmp_path / "nowhere.parquet"))
