from __future__ import annotations

import builtins
import json
import os
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field, Schema, convert_to_deltalake, write_deltalake

from raymlops.data import TableSchema, add_dataset, as_table, load_dataset, open_source
from raymlops.data.sources.delta import DeltaRows
from raymlops.errors import DataError
from raymlops.ledger import Ledger
from raymlops.storage import Store


@pytest.fixture
def delta(tmp_path: Path, tumours: pa.Table) -> Path:
    """Version 0: 300 rows; 1: all 569; 2: without the small ones."""
    path = tmp_path / "tumours-delta"
    write_deltalake(str(path), tumours.slice(0, 300), partition_by=["size"])
    write_deltalake(str(path), tumours.slice(300), mode="append")
    DeltaTable(str(path)).delete("size = 'small'")
    return path


def rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=str)


def read_by_deltalake(path: Path, version: int) -> pa.Table:
    return DeltaTable(str(path), version=version).to_pyarrow_table()


@pytest.mark.parametrize(("version", "num_rows"), [(0, 300), (1, 569), (None, None)])
def test_a_version_is_what_deltalake_reads(
    delta: Path,
    version: int | None,
    num_rows: int | None,
    tumour_schema: TableSchema,
    ledger: Ledger,
    store: Store,
) -> None:
    dataset = add_dataset(ledger, store, open_source(delta, version=version), tumour_schema)
    write_deltalake(str(delta), read_by_deltalake(delta, 0), mode="overwrite")  # life goes on
    expected = read_by_deltalake(delta, 2 if version is None else version)
    assert dataset.num_rows == (num_rows or expected.num_rows) == expected.num_rows
    assert rows(load_dataset(store, dataset)) == rows(expected)
    assert dataset.format == "delta"
    assert dataset.source is not None
    assert dataset.source["uri"] == str(delta)
    assert dataset.source["version"] == (2 if version is None else version)


def test_nothing_of_the_data_is_copied(
    delta: Path, tumour_schema: TableSchema, ledger: Ledger, store: Store
) -> None:
    dataset = add_dataset(ledger, store, open_source(delta), tumour_schema)
    assert sorted(store.tree(dataset.manifest)) == ["_delta.json", "_schema.arrow"]


def commit_times(delta: Path) -> list[datetime]:
    history = DeltaTable(str(delta)).history()
    return [datetime.fromtimestamp(each["timestamp"] / 1000, UTC) for each in reversed(history)]


def test_time_travels_to_the_newest_version_of_that_time(delta: Path) -> None:
    for version, time in enumerate(commit_times(delta)):
        origin = open_source(delta, at=time).origin
        assert origin is not None
        assert origin["version"] == version
    now = open_source(delta, at=datetime.now(UTC) + timedelta(days=1)).origin
    assert now is not None
    assert now["version"] == 2


def test_a_time_before_the_table_is_refused(delta: Path) -> None:
    # deltalake's own load_as_version answers with version 0.
    with pytest.raises(DataError, match="had no version at 2013-01-01"):
        open_source(delta, at=datetime(2013, 1, 1, tzinfo=UTC))


def test_a_version_that_does_not_exist_is_refused(delta: Path, tmp_path: Path) -> None:
    for version in (3, -1):
        with pytest.raises(DataError, match=f"version {version} of the Delta table at"):
            open_source(delta, version=version)
    with pytest.raises(DataError, match="give a version or a time, not both"):
        open_source(delta, version=1, at=datetime.now(UTC))
    with pytest.raises(DataError, match="there is no Delta table at"):
        open_source(f"file://{tmp_path}/none")


@pytest.fixture
def added(delta: Path, tumour_schema: TableSchema, ledger: Ledger, store: Store) -> Any:
    return add_dataset(ledger, store, open_source(delta, version=1), tumour_schema)


def test_a_vacuumed_version_is_refused(delta: Path, added: Any, store: Store) -> None:
    DeltaTable(str(delta)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(DataError, match=r"version 1 of .* was vacuumed: 2 of its 4 files are gone"):
        load_dataset(store, added)
    with pytest.raises(DataError, match="was vacuumed"):
        open_source(delta, version=1).digest  # noqa: B018 - it is what fails


def test_a_changed_byte_is_refused(delta: Path, added: Any, store: Store) -> None:
    path = Path(DeltaTable(str(delta), version=1).file_uris()[0])
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"version 1 of .* changed: .*parquet was "):
        load_dataset(store, added)


def test_another_table_in_its_place_is_refused(
    delta: Path, added: Any, store: Store, tumours: pa.Table
) -> None:
    os.rename(delta, delta.with_name("before"))
    for half in (tumours.slice(0, 300), tumours.slice(300)):
        write_deltalake(str(delta), half, mode="append")
    with pytest.raises(DataError, match="it is not the table that was added"):
        load_dataset(store, added)


def test_the_same_files_elsewhere_are_the_same_content(delta: Path) -> None:
    copy = delta.with_name("copy")
    shutil.copytree(delta, copy)
    assert open_source(copy).digest == open_source(delta).digest
    assert open_source(copy, version=0).digest != open_source(delta).digest


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    """A table whose folders hold files of the same name, as whoever writes such folders does."""
    path = tmp_path / "a table of years"
    for year, values in ((2013, [1, 2]), (2014, [3, 4])):
        (path / f"year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"x": values}), path / f"year={year}" / "part-0.parquet")
    convert_to_deltalake(
        path, partition_by=Schema([Field("year", "long")]), partition_strategy="hive"
    )
    return path


@pytest.mark.parametrize("year", [2013, 2014])
def test_files_of_one_name_in_several_folders_are_told_apart(
    hive: Path, year: int, store: Store
) -> None:
    # Each had the digest of the last: new data was an old version, a changed file went unnoticed.
    source = open_source(hive)
    before, kept = source.digest, source.keep(store)
    pq.write_table(pa.table({"x": [30, 40]}), hive / f"year={year}" / "part-0.parquet")
    assert open_source(hive).digest != before
    with pytest.raises(DataError, match=f"changed: year={year}/part-0.parquet was "):
        list(DeltaRows(store, kept.manifest).batches())


@pytest.mark.parametrize("value", ["a b", "50 %", "%20", "c=d/e", "Zürich"])
def test_a_partition_may_be_called_anything(value: str, tmp_path: Path, store: Store) -> None:
    table = pa.table({"x": [1, 2], "town": ["Bern", value]})
    write_deltalake(str(tmp_path / "towns ü"), table, partition_by=["town"])
    for uri in (str(tmp_path / "towns ü"), (tmp_path / "towns ü").as_uri()):
        kept = open_source(uri).keep(store)
        listing = json.loads(store.get(store.tree(kept.manifest)["_delta.json"]))
        assert all(file["sha256"] for file in listing["files"])
        found = pa.Table.from_batches(DeltaRows(store, kept.manifest).batches())
        assert rows(found) == rows(table)


def mapped(path: Path, name: str) -> Path:
    """A table as Spark writes it, whose only column the files know as `row`, readers as `name`."""
    write_deltalake(path, pa.table({"row": [1, 2]}))
    log = path / "_delta_log" / "00000000000000000000.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            given = action["metaData"]
            schema = json.loads(given["schemaString"])
            in_files = {
                "delta.columnMapping.id": 1,
                "delta.columnMapping.physicalName": "row",
            }
            (field,) = schema["fields"]
            field |= {"name": name, "metadata": in_files}
            given["schemaString"] = json.dumps(schema)
            given["configuration"] = {
                "delta.columnMapping.mode": "name",
                "delta.columnMapping.maxColumnId": "1",
            }
    log.write_text("".join(f"{json.dumps(action)}\n" for action in actions))
    return path


def test_columns_that_the_files_know_by_another_name_are_refused(tmp_path: Path) -> None:
    # deltalake reads null in every row of such a column.
    with pytest.raises(DataError, match="its files know renamed by other names"):
        open_source(mapped(tmp_path / "table", "renamed"))


def test_mapped_columns_that_were_not_renamed_are_read(tmp_path: Path) -> None:
    source = open_source(mapped(tmp_path / "table", "row"))
    assert as_table(source).to_pydict() == {"row": [1, 2]}


def test_credentials_in_the_uri_stay_out_of_the_ledger() -> None:
    with pytest.raises(DataError, match="holds credentials") as refused:
        open_source("s3://key:secret@host/table")
    assert "secret" not in str(refused.value)


def test_the_missing_package_is_named(delta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name.startswith("deltalake"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return found(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"pip install raymlops\[delta\]"):
        open_source(delta)


def test_batches_are_bounded_by_what_texts_unpack_to(tmp_path: Path) -> None:
    """A file of 40 kB took 6 GB of memory to be added."""
    text = pa.DictionaryArray.from_arrays(np.zeros(3_000, np.int32), ["y" * 100_000])
    rows = pa.table({"part": ["a"] * 1_000 + ["b"] * 2_000, "text": text})
    (tmp_path / "part=a").mkdir()
    (tmp_path / "part=b").mkdir()
    for name, some in (("a", rows.slice(0, 1_000)), ("b", rows.slice(1_000))):
        pq.write_table(some.drop_columns("part"), tmp_path / f"part={name}" / "0.parquet")
    convert_to_deltalake(
        str(tmp_path),
        partition_by=Schema([Field("part", "string")]),
        partition_strategy="hive",
    )
    found: Counter[str] = Counter()
    for batch in open_source(tmp_path).batches():
        assert batch.nbytes < 80 << 20
        found.update(batch["part"].to_pylist())
    assert found == {"a": 1_000, "b": 2_000}
