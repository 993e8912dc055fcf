"""The contract every source keeps, on the same rows in every form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow import csv

from raymlops.data import Source, add_dataset, load_dataset, open_dataset, open_source
from raymlops.data.export import export_dvc
from raymlops.ledger import Ledger
from raymlops.storage import Store
from tests.data.sources.flights import SCHEMA, a_folder, sorted_rows


def in_memory(table: pa.Table, folder: Path) -> Source:
    return open_source(table)


def one_file(table: pa.Table, folder: Path) -> Source:
    pq.write_table(table, folder / "week.parquet")
    return open_source(folder / "week.parquet")


def csv_file(table: pa.Table, folder: Path) -> Source:
    csv.write_csv(table, folder / "week.csv")
    return open_source(str(folder / "week.csv"))


def csv_list(table: pa.Table, folder: Path) -> Source:
    csv.write_csv(table.slice(0, 3000), folder / "a.csv")
    csv.write_csv(table.slice(3000), folder / "b.csv")
    return open_source([folder / "b.csv", folder / "a.csv"])


def delta(table: pa.Table, folder: Path) -> Source:
    write_deltalake(str(folder / "delta"), table)
    return open_source(folder / "delta")


def dvc(table: pa.Table, folder: Path) -> Source:
    (folder / ".dvc").mkdir()
    store = Store(str(folder / "other-store"))
    with Ledger("sqlite://") as ledger:
        dataset = add_dataset(ledger, store, table, SCHEMA)
        return open_source(export_dvc(store, dataset, folder / "shared"))


MEMBERS: list[Callable[[pa.Table, Path], Source]] = [
    in_memory, one_file, csv_file, a_folder, csv_list, delta, dvc,
]  # fmt: skip


@pytest.fixture(params=MEMBERS, ids=lambda member: member.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[pa.Table, Path], Source]:
    made: Callable[[pa.Table, Path], Source] = request.param
    return made


@pytest.fixture
def source(make: Callable[[pa.Table, Path], Source], week: pa.Table, tmp_path: Path) -> Source:
    return make(week, tmp_path)


def as_us(table: pa.Table) -> pa.Table:
    """CSV times come in nanoseconds; the moments are the same."""
    kind = pa.timestamp("us", tz="UTC")
    return table.set_column(0, "scheduled_at", table["scheduled_at"].cast(kind))


def test_a_version_gives_back_the_rows(
    source: Source, week: pa.Table, ledger: Ledger, store: Store
) -> None:
    dataset = add_dataset(ledger, store, source, SCHEMA)
    assert (dataset.version, dataset.num_rows, dataset.digest) == (1, 5901, source.digest)
    assert dataset.size_bytes > 10_000
    loaded = load_dataset(store, dataset)
    assert loaded.schema == source.schema
    assert sorted_rows(as_us(loaded)) == sorted_rows(week)
    statistics = {column["name"]: column for column in dataset.statistics}
    assert statistics["distance"]["mean"] == pytest.approx(np.mean(week["distance"].to_numpy()))


def test_rows_come_in_batches_of_chosen_columns(
    source: Source, ledger: Ledger, store: Store
) -> None:
    dataset = add_dataset(ledger, store, source, SCHEMA)
    for rows in (source, open_dataset(store, dataset)):
        batches = list(rows.batches(["late", "carrier"]))
        assert all(batch.schema.names == ["late", "carrier"] for batch in batches)
        assert sum(batch.num_rows for batch in batches) == 5901


def test_the_same_content_is_the_same_version(
    make: Callable[[pa.Table, Path], Source],
    week: pa.Table,
    tmp_path: Path,
    ledger: Ledger,
    store: Store,
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = add_dataset(ledger, store, make(week, tmp_path / "one"), SCHEMA)
    again = add_dataset(ledger, store, make(week, tmp_path / "two"), SCHEMA)
    assert again == first
    (tmp_path / "three").mkdir()
    late = week["late"].to_pylist()
    changed = week.set_column(5, "late", [[1 - late[0], *late[1:]]])
    assert add_dataset(ledger, store, make(changed, tmp_path / "three"), SCHEMA).version == 2


def test_a_digest_is_known_before_anything_is_stored(source: Source) -> None:
    assert len(source.digest) == 64
