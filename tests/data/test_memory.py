"""Large data passes in bounded memory, in a process of its own, whose peak is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.demo.flights import load_flights

SCRIPT = """
import sys
from pathlib import Path
from raymlops.data import Feature, TableSchema, add_dataset, open_source
from raymlops.data.rules import Monotone
from raymlops.ledger import Ledger
from raymlops.storage import Store


def peak_kib():  # ru_maxrss would be that of the process this one was forked from
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


schema = TableSchema(
    dataset="flights", target="late", event_time="scheduled_at",
    features=(Feature(name="temp", kind="number", max_missing=0.1),),
    expectations=(Monotone(column="row"),),
)
with Ledger("sqlite://") as ledger:
    before = peak_kib()
    dataset = add_dataset(ledger, Store(sys.argv[1]), open_source(sys.argv[2]), schema)
    print(dataset.num_rows, peak_kib() - before)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The year's flights six times over, numbered: 250 MiB, on disk as in memory."""
    path = tmp_path_factory.mktemp("large") / "flights.parquet"
    table = load_flights()
    schema = table.schema.append(pa.field("row", pa.int64()))
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for year in range(6):
            rows = np.arange(table.num_rows) + year * table.num_rows
            writer.write_table(table.append_column("row", pa.array(rows)), row_group_size=65_536)
    return path


def added(store: Path, file: Path) -> tuple[int, int]:
    """How many rows a process of its own adds, and the KiB of memory that takes it at most."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(store), str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    num_rows, extra_kib = map(int, done.stdout.split())
    return num_rows, extra_kib


def test_a_file_is_added_in_less_memory_than_it_fills(large: Path, tmp_path: Path) -> None:
    # Arrow reads ahead by default, and would hold all of the file by its end.
    num_rows, extra_kib = added(tmp_path / "store", large)
    assert num_rows == 1_964_076
    assert large.stat().st_size > 240 << 20
    assert 0 < extra_kib < 200 << 10


@pytest.fixture(scope="module")
def unpacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of 3 GB in 40 kB: the same one in every row."""
    path = tmp_path_factory.mktemp("unpacking") / "flights.parquet"
    table = load_flights().select(["scheduled_at", "temp", "late"]).slice(0, 30_000)
    text = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, np.int32), ["y" * 100_000])
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    pq.write_table(table.append_column("text", text), path, compression="zstd", store_schema=False)
    return path


def test_a_file_that_unpacks_to_gigabytes_is_added_in_bounded_memory(
    unpacking: Path, tmp_path: Path
) -> None:
    # Batches were bounded by rows alone: it took more than 5 GiB.
    num_rows, extra_kib = added(tmp_path / "store", unpacking)
    assert num_rows == 30_000
    assert unpacking.stat().st_size < 1 << 20
    assert extra_kib < 700 << 10
