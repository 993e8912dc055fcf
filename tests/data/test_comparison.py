from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from raymlops.data import Feature, TableSchema, add_dataset, between
from raymlops.data.comparison import DatasetDifference, difference
from raymlops.data.rules import Drift, OneOf, Unique
from raymlops.data.sample import Sample
from raymlops.demo.flights import load_flights
from raymlops.errors import ExpectationError, NotFoundError
from raymlops.ledger import Ledger
from raymlops.storage import Store

FEATURES = (Feature(name="temp", kind="number", max_missing=0.1),)


def schema_of(*expectations: object) -> TableSchema:
    return TableSchema(
        dataset="flights",
        target="late",
        event_time="scheduled_at",
        features=FEATURES,
        expectations=expectations,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def months() -> tuple[pa.Table, pa.Table]:
    table = load_flights()
    january, july, august = (datetime(2013, month, 1, tzinfo=UTC) for month in (1, 7, 8))
    february = datetime(2013, 2, 1, tzinfo=UTC)
    cold = between(table, "scheduled_at", january, february)
    warm = between(table, "scheduled_at", july, august)
    return cold, warm


@pytest.fixture
def compared(months: tuple[pa.Table, pa.Table], ledger: Ledger, store: Store) -> DatasetDifference:
    cold, warm = months
    warm = warm.drop(["visib"]).append_column("year", pa.array([2013] * warm.num_rows))
    warm = warm.set_column(
        warm.column_names.index("distance"), "distance", warm["distance"].cast(pa.float64())
    )
    before = add_dataset(ledger, store, cold, schema_of())
    after = add_dataset(ledger, store, warm, schema_of())
    return difference(store, before, after)


def test_columns_that_came_went_or_changed_are_told(compared: DatasetDifference) -> None:
    changes = {column.name: column.change for column in compared.columns if column.change}
    assert changes == {"visib": "removed", "distance": "int64 -> double", "year": "added"}
    assert not compared.same_content
    assert (compared.before.num_rows, compared.after.num_rows) == (26_268, 28_280)


def test_drift_is_that_of_scipy(
    compared: DatasetDifference, months: tuple[pa.Table, pa.Table]
) -> None:
    cold, warm = months
    columns = {column.name: column for column in compared.columns}
    for name in ("temp", "humid", "distance"):
        drift = columns[name].drift
        assert drift is not None
        expected = ks_2samp(cold[name].drop_null().to_numpy(), warm[name].drop_null().to_numpy())
        assert drift.effect == pytest.approx(expected.statistic, abs=1 / 256)
    drifted = {column.name for column in compared.columns if column.drift and column.drift.drifted}
    assert "temp" in drifted
    assert not {"carrier", "origin"} & drifted
    assert columns["scheduled_at"].drift is None


def test_a_version_does_not_differ_from_itself(
    months: tuple[pa.Table, pa.Table], ledger: Ledger, store: Store
) -> None:
    dataset = add_dataset(ledger, store, months[0], schema_of())
    found = difference(store, dataset, dataset)
    assert found.same_content
    assert all(column.before == column.after and not column.change for column in found.columns)


def test_drift_from_the_newest_version_refuses_a_dataset(
    months: tuple[pa.Table, pa.Table], ledger: Ledger, store: Store
) -> None:
    cold, warm = months
    schema = schema_of(Drift(columns=("temp", "carrier"), max_effect=0.3))
    first = add_dataset(ledger, store, cold, schema)  # there is nothing to hold it against
    assert add_dataset(ledger, store, cold, schema) == first
    with pytest.raises(
        ExpectationError, match=r"'temp': rule 'within 0.3 of version 1' is broken .* e.g. ks 0.99"
    ):
        add_dataset(ledger, store, warm, schema)
    with pytest.raises(NotFoundError, match="no dataset flights version 7"):
        add_dataset(ledger, store, warm, schema_of(Drift(reference=7)))


def test_a_report_is_kept_of_every_rule_also_for_refused_rows(
    months: tuple[pa.Table, pa.Table], ledger: Ledger, store: Store
) -> None:
    cold, _ = months
    good = schema_of(OneOf(column="origin", values=("EWR", "JFK", "LGA")))
    dataset = add_dataset(ledger, store, cold, good)
    report = ledger.datasets.checks("flights", dataset.digest)
    assert all(check.passed for check in report)
    assert ("origin", "EWR, JFK or LGA") in {(check.column, check.rule) for check in report}

    bad = schema_of(OneOf(column="origin", values=("EWR", "JFK")), Unique(columns=("dest",)))
    with pytest.raises(ExpectationError) as refused:
        add_dataset(ledger, store, cold.slice(1), bad)
    assert f"raymlops data show flights@{refused.value.digest[:12]}" in str(refused.value)
    report = ledger.datasets.checks("flights", refused.value.digest)
    broken = {check.column: check for check in report if not check.passed}
    assert broken.keys() == {"origin", "dest"}
    assert broken["origin"].num_broken == cold.slice(1)["origin"].to_pylist().count("LGA")
    assert broken["origin"].examples == ("LGA", "LGA", "LGA")
    assert broken["dest"].num_rows == 26_267
    assert [dataset.version for dataset in ledger.datasets.list()] == [1]


def test_a_sample_is_of_all_rows_alike() -> None:
    batches = [pa.record_batch({"row": list(range(start, start + 100))}) for start in
               range(0, 20_000, 100)]  # fmt: skip
    sample, again = Sample(1_000), Sample(1_000)
    for batch in batches:
        sample.feed(batch)
        again.feed(batch)
    rows = sample.table(batches[0].schema)["row"].to_pylist()
    assert len(rows) == len(set(rows)) == 1_000
    assert rows == sorted(rows) == again.table(batches[0].schema)["row"].to_pylist()
    # 500 of the first half are expected, with a standard deviation of 15.
    assert 430 < sum(row < 10_000 for row in rows) < 570


def test_a_sample_of_few_rows_is_all_of_them() -> None:
    batch = pa.record_batch({"row": [3, 1, 2]})
    sample = Sample(10)
    assert sample.table(batch.schema).num_rows == 0
    sample.feed(batch)
    assert sample.table(batch.schema)["row"].to_pylist() == [3, 1, 2]
