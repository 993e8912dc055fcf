"""Rules about all rows at once: uniqueness and drift, on the flights of 2013."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data.rules import Drift
from raymlops.data.rules.unique import UniqueChecker
from raymlops.demo.flights import load_flights
from raymlops.errors import DataError
from tests.data.rules.checked import TABLE, findings


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return load_flights()


def test_uniqueness_on_disk_counts_as_in_memory(flights: pa.Table) -> None:
    keys = ["scheduled_at", "carrier", "origin", "dest", "plane_year", "late"]
    table = flights.select(keys)
    frame = table.to_pandas()
    expected = int(frame.duplicated().sum())
    assert expected > 0
    for buffer_bytes in (1 << 30, 1 << 18):
        checker = UniqueChecker(tuple(keys), buffer_bytes=buffer_bytes)
        for batch in table.to_batches(max_chunksize=10_000):
            checker.feed(batch)
        assert bool(checker.partitions) == (buffer_bytes == 1 << 18)
        (found,) = checker.findings(table.num_rows)
        assert found.num_broken == expected
        assert len(found.examples) == 3


def test_equal_keys_meet_on_disk_whatever_lies_beside_them() -> None:
    # pandas reads a batch of integers with a missing one as floats, which hash differently.
    checker = UniqueChecker(("a", "b"), buffer_bytes=0)
    for a in ([1, 2], [1, None], [None, 3]):
        checker.feed(pa.record_batch({"a": pa.array(a, pa.int64()), "b": ["x", "x"]}))
    (found,) = checker.findings(6)
    assert (found.num_broken, sorted(found.examples)) == (
        2, ["1 | x (2 times)", "None | x (2 times)"],
    )  # fmt: skip


def month(table: pa.Table, number: int) -> pa.Table:
    months = np.asarray(table["scheduled_at"].to_pandas().dt.month)
    return table.filter(pa.array(months == number))


def test_drift_names_the_columns_that_moved(flights: pa.Table) -> None:
    january, july = month(flights, 1), month(flights, 7)
    found = findings(Drift(), july, chunk=5_000, earlier=january)
    broken = {finding.column: finding for finding in found if not finding.passed}
    assert "temp" in broken
    assert "carrier" not in broken
    assert broken["temp"].rule == "within 0.1 of version 1"
    assert broken["temp"].num_broken == july.num_rows
    # The largest gap between the two distribution functions, counted by hand; bins see it to 1/256.
    cold, warm = (np.sort(part["temp"].drop_null().to_numpy()) for part in (january, july))
    grid = np.unique([*cold, *warm])
    gap = np.abs(
        np.searchsorted(cold, grid, "right") / len(cold)
        - np.searchsorted(warm, grid, "right") / len(warm)
    ).max()
    told = re.fullmatch(r"ks (0\.\d{3}), p 0", broken["temp"].examples[0])
    assert told is not None
    assert float(told[1]) == pytest.approx(gap, abs=1 / 256)


def test_rows_alike_have_not_drifted(flights: pa.Table) -> None:
    even = flights.take(pa.array(np.arange(0, 100_000, 2)))
    odd = flights.take(pa.array(np.arange(1, 100_000, 2)))
    assert all(finding.passed for finding in findings(Drift(), odd, chunk=5_000, earlier=even))


def test_drift_of_what_cannot_be_compared_is_refused() -> None:
    texts = TABLE.set_column(0, "hour", pa.array(["5", "23", None, "24", "inf"]))
    with pytest.raises(DataError, match="drift of hour against version 1 cannot be told"):
        findings(Drift(columns=("hour",)), TABLE, earlier=texts)
    with pytest.raises(DataError, match="needs the ledger that holds its reference"):
        Drift().checker(TABLE.schema, None)
