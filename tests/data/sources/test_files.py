from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from raymlops.data import add_dataset, as_table, open_source
from raymlops.errors import DataError
from raymlops.ledger import Ledger
from raymlops.storage import Store
from tests.data.sources.flights import SCHEMA, a_folder


def test_names_of_files_do_not_count(week: pa.Table, tmp_path: Path) -> None:
    a_folder(week, tmp_path)
    before = open_source(tmp_path / "parts").digest
    deep = tmp_path / "parts" / "deep"
    (deep / "0.parquet").rename(deep / "z.parquet")
    (deep / "1.parquet").rename(deep / "0.parquet")
    assert open_source(tmp_path / "parts").digest == before


def test_files_are_read_in_the_widest_of_their_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [0.5]}), tmp_path / "b.parquet")
    assert as_table(open_source(tmp_path))["x"].to_pylist() == [1.0, 0.5]


def test_a_file_that_changes_while_it_is_added_is_refused(
    week: pa.Table, tmp_path: Path, ledger: Ledger, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for write, name in ((pq.write_table, "t.parquet"), (csv.write_csv, "t.csv")):
        path = tmp_path / name
        write(week, path)
        source = open_source(path)
        assert source.digest
        write(week.slice(1), path)
        with pytest.raises(DataError, match=f"{name} changed while it was added, from"):
            add_dataset(ledger, store, source, SCHEMA)
    assert ledger.datasets.list() == []
