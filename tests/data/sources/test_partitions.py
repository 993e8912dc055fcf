from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import add_dataset, load_dataset, open_source
from raymlops.ledger import Ledger
from raymlops.storage import Store
from tests.data.sources.flights import SCHEMA, sorted_rows


@pytest.fixture
def hive(week: pa.Table, tmp_path: Path) -> Path:
    folder = tmp_path / "hive"
    pq.write_to_dataset(week, str(folder), partition_cols=["origin", "late"])
    return folder


def test_partition_columns_lie_in_the_names_of_folders(
    week: pa.Table, hive: Path, ledger: Ledger, store: Store
) -> None:
    source = open_source(hive)
    assert source.schema.names == ["scheduled_at", "carrier", "distance", "temp", "origin", "late"]
    assert source.schema.field("late").type == pa.int64()
    dataset = add_dataset(ledger, store, source, SCHEMA)
    loaded = load_dataset(store, dataset).select(week.schema.names)
    assert sorted_rows(loaded) == sorted_rows(week)
    (hive / "origin=EWR").rename(hive / "origin=XXX")
    assert open_source(hive).digest != source.digest
