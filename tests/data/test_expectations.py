from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raymlops.data import (
    Feature,
    TableSchema,
    add_dataset,
    check,
    enforce,
    load_dataset,
    read_columns,
    read_table,
)
from raymlops.data.rules import Compare, OneOf
from raymlops.errors import DataError, ExpectationError
from raymlops.ledger import Ledger
from raymlops.storage import Store
from raymlops.train.tabular.split import split_by_time
from tests.weather import SCHEMA as WEATHER
from tests.weather import weather


def with_column(table: pa.Table, name: str, column: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def test_a_good_table_passes_every_rule(tumours: pa.Table, tumour_schema: TableSchema) -> None:
    findings = enforce(tumours, tumour_schema)
    assert all(finding.passed for finding in findings)
    assert {finding.column for finding in findings} == {
        "*", "mean_radius", "mean_texture", "worst_concavity", "size", "target", "seen_at",
    }  # fmt: skip


def broken_tables(table: pa.Table) -> dict[str, pa.Table]:
    row = pa.array(range(table.num_rows))
    third = pc.equal(pc.subtract(row, pc.multiply(pc.divide(row, 3), 3)), 0)
    radius = table["mean_radius"]
    return {
        "column 'mean_radius': rule 'column present' is broken by 569 of 569 rows": table.drop(
            ["mean_radius"]
        ),
        "column 'mean_radius': rule 'type number' is broken by 569 of 569 rows, e.g. it is "
        "string": with_column(table, "mean_radius", radius.cast(pa.string())),
        "column 'mean_radius': rule 'at most 100' is broken by 190 of 569 rows": with_column(
            table, "mean_radius", pc.if_else(third, 500.0, radius)
        ),
        "column 'mean_radius': rule 'finite' is broken by 190 of 569 rows, e.g. inf": with_column(
            table, "mean_radius", pc.if_else(third, float("inf"), radius)
        ),
        "column 'mean_radius': rule 'missing share at most 0' is broken by 190 of 569 rows; leave "
        "these rows out; a feature may have more of them by its max_missing": with_column(
            table, "mean_radius", pc.if_else(third, None, radius)
        ),
        "column 'worst_concavity': rule 'missing share at most 0.2' is broken by 190": with_column(
            table, "worst_concavity", pc.if_else(third, float("nan"), table["worst_concavity"])
        ),
        "column 'target': rule 'type 0/1' is broken by 569 of 569 rows, e.g. it is string; a label "
        "is 0/1 or true/false: map it before": with_column(
            table, "target", table["target"].cast(pa.string())
        ),
        "column 'target': rule '0 or 1' is broken by 190 of 569 rows, e.g. 2, 2, 2": with_column(
            table, "target", pc.if_else(third, 2, table["target"])
        ),
        "column 'seen_at': rule 'type timestamp with a zone' is broken by 569 of 569 rows, e.g. it "
        "is timestamp[us]; write times with their zone, e.g. 2024-01-01T06:00:00Z": with_column(
            table, "seen_at", table["seen_at"].cast(pa.timestamp("us"))
        ),
        "column '*': rule 'at least 100 rows' is broken by 90 of 10 rows": table.slice(0, 10),
    }


@pytest.mark.parametrize("number", range(10))
def test_a_broken_table_is_refused_with_column_rule_and_count(
    tumours: pa.Table, tumour_schema: TableSchema, number: int
) -> None:
    expected, table = list(broken_tables(tumours).items())[number]
    with pytest.raises(ExpectationError) as refused:
        enforce(table, tumour_schema)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ([39.2, None], "column 'temp': rule 'missing share at most 0' is broken by 1 of 2 rows"),
        ([39.2, math.inf], "column 'temp': rule 'at most 3.4e+38"),
        (["cold", "warm"], "column 'temp': rule 'type number' is broken by 2 of 2 rows"),
    ],
)
def test_a_target_of_regression_is_a_finite_number(odd: list[object], told: str) -> None:
    table = weather().slice(0, 2)
    assert all(finding.passed for finding in check(table, WEATHER))
    with pytest.raises(ExpectationError) as refused:
        enforce(with_column(table, "temp", pa.array(odd)), WEATHER)
    assert told in str(refused.value)


def test_a_label_that_is_meant_to_be_a_number_is_told_how_to_say_so() -> None:
    schema = replace(WEATHER, task="classification")
    with pytest.raises(ExpectationError) as refused:
        enforce(weather().slice(0, 2), schema)
    assert "rule '0 or 1' is broken by 2 of 2 rows, e.g. 39.92, 41.0; a label" in str(refused.value)
    assert "or say that it is a number by data.task: regression" in str(refused.value)


def test_a_column_of_nothing_is_as_much_missing_as_it_is(ledger: Ledger, store: Store) -> None:
    """Of a CSV without a single value in a column Arrow says that its type is null."""
    table = weather().slice(0, 50)
    for name in ("pressure", "origin"):
        table = with_column(table, name, pa.nulls(50))
    bounded = (
        Feature(name="origin", kind="category", max_missing=1.0),
        Feature(name="hour", kind="number"),
        Feature(name="pressure", kind="number", low=900, high=1100, max_missing=1.0),
    )
    rules = (
        Compare(left="hour", op="<=", right="pressure"),
        OneOf(column="origin", values=("EWR", "JFK")),
    )
    schema = replace(WEATHER, features=bounded, expectations=rules)
    assert all(finding.passed for finding in check(table, schema))
    columns = read_columns(table, schema.features)
    assert np.isnan(columns["pressure"]).all()
    assert columns["origin"].tolist() == [None] * 50
    dataset = add_dataset(ledger, store, table, schema)
    arrays = split_by_time(load_dataset(store, dataset), schema, 0.2).arrays
    assert np.isfinite(arrays.train).all()
    with pytest.raises(
        ExpectationError, match=r"'missing share at most 0\.3' is broken by 50 of 50"
    ):
        enforce(table, replace(schema, features=WEATHER.features))
    for needed in ("temp", "scheduled_at"):
        with pytest.raises(ExpectationError, match=f"column '{needed}': rule '"):
            enforce(with_column(table, needed, pa.nulls(50)), schema)


def test_everything_that_is_wrong_is_said_at_once(
    tumours: pa.Table, tumour_schema: TableSchema
) -> None:
    table = tumours.drop(["mean_radius", "size"])
    broken = [finding.column for finding in check(table, tumour_schema) if not finding.passed]
    assert broken == ["mean_radius", "size"]


def test_a_refused_table_leaves_nothing_behind(
    tumours: pa.Table, tumour_schema: TableSchema, ledger: Ledger, store: Store
) -> None:
    with pytest.raises(ExpectationError):
        add_dataset(ledger, store, tumours.slice(0, 10), tumour_schema)
    assert ledger.datasets.list() == []
    assert not Path(store.uri).exists()


def test_a_dataset_version_holds_the_table(
    tumours: pa.Table, tumour_schema: TableSchema, ledger: Ledger, store: Store
) -> None:
    first = add_dataset(ledger, store, tumours, tumour_schema, description="all")
    assert (first.version, first.num_rows) == (1, 569)
    assert dict(first.fields)["size"] == "string"
    assert load_dataset(store, first).equals(tumours)
    assert add_dataset(ledger, store, tumours, tumour_schema) == first
    assert add_dataset(ledger, store, tumours.slice(0, 500), tumour_schema).version == 2


def test_files_are_read_by_their_kind(tumours: pa.Table, tmp_path: Path) -> None:
    pq.write_table(tumours, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").equals(tumours)
    (tmp_path / "t.csv").write_text("a,b\n1,x\n")
    assert read_table(tmp_path / "t.csv").to_pylist() == [{"a": 1, "b": "x"}]
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    for name, message in (
        ("bad.parquet", "cannot be read"),
        ("none.csv", "cannot be read"),
        ("t.xlsx", "is neither .parquet nor .csv"),
    ):
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / name)


def test_a_schema_says_what_is_read_from_csv_as_it_is_written(tumour_schema: TableSchema) -> None:
    assert tumour_schema.texts == ("size",)
    named = replace(tumour_schema, classes=("benign", "malignant"))
    assert named.texts == ("size", "target")
    assert replace(tumour_schema, classes=(1, 2)).texts == ("size",)
