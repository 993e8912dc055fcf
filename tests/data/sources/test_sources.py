"""The contract every source keeps, on the same rows in every form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow import csv

from raymlops.data import (
    Feature,
    Source,
    TableSchema,
    add_dataset,
    as_table,
    between,
    load_dataset,
    open_dataset,
    open_source,
)
from raymlops.data.export import export_dvc
from raymlops.data.sources import StoredRows, formats
from raymlops.data.statistics import Statistics
from raymlops.demo.flights import load_flights
from raymlops.errors import DataError, ExpectationError
from raymlops.ledger import Ledger
from raymlops.storage import Store

SCHEMA = TableSchema(
    dataset="flights",
    target="late",
    event_time="scheduled_at",
    features=(
        Feature(name="carrier", kind="category"),
        Feature(name="temp", kind="number", low=-60, high=130, max_missing=0.1),
    ),
)


@pytest.fixture(scope="module")
def week() -> pa.Table:
    """The flights of the first week, with the types every format can keep."""
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 8, tzinfo=UTC)
    table = between(load_flights(), "scheduled_at", start, end).combine_chunks()
    table = table.select(["scheduled_at", "carrier", "origin", "distance", "temp", "late"])
    strings = [
        pa.field(field.name, pa.string() if pa.types.is_large_string(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(strings)).set_column(5, "late", table["late"].cast(pa.int64()))


def in_memory(table: pa.Table, folder: Path) -> Source:
    return open_source(table)


def one_file(table: pa.Table, folder: Path) -> Source:
    pq.write_table(table, folder / "week.parquet")
    return open_source(folder / "week.parquet")


def csv_file(table: pa.Table, folder: Path) -> Source:
    csv.write_csv(table, folder / "week.csv")
    return open_source(str(folder / "week.csv"))


def a_folder(table: pa.Table, folder: Path) -> Source:
    for part in range(3):
        start = part * 2000
        rows = table.slice(start, 2000) if part < 2 else table.slice(start)
        (folder / "parts" / "deep").mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, folder / "parts" / "deep" / f"{part}.parquet")
    (folder / "parts" / "_SUCCESS").touch()
    return open_source(folder / "parts")


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


def sorted_rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=str)


def as_us(table: pa.Table) -> pa.Table:
    """CSV times come in nanoseconds; the moments are the same."""
    kind = pa.timestamp("us", tz="UTC")
    return table.set_column(0, "scheduled_at", table["scheduled_at"].cast(kind))


def test_a_version_gives_back_the_rows(
    make: Callable[[pa.Table, Path], Source],
    week: pa.Table,
    tmp_path: Path,
    ledger: Ledger,
    store: Store,
) -> None:
    source = make(week, tmp_path)
    dataset = add_dataset(ledger, store, source, SCHEMA)
    assert (dataset.version, dataset.num_rows, dataset.digest) == (1, 5901, source.digest)
    assert dataset.size_bytes > 10_000
    loaded = load_dataset(store, dataset)
    assert loaded.schema == source.schema
    assert sorted_rows(as_us(loaded)) == sorted_rows(week)
    statistics = {column["name"]: column for column in dataset.statistics}
    assert statistics["distance"]["mean"] == pytest.approx(np.mean(week["distance"].to_numpy()))


def test_rows_come_in_batches_of_chosen_columns(
    make: Callable[[pa.Table, Path], Source],
    week: pa.Table,
    tmp_path: Path,
    ledger: Ledger,
    store: Store,
) -> None:
    source = make(week, tmp_path)
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


def test_a_digest_is_known_before_anything_is_stored(
    make: Callable[[pa.Table, Path], Source], week: pa.Table, tmp_path: Path
) -> None:
    assert len(make(week, tmp_path).digest) == 64


# What only some of them have.


def test_a_table_is_its_values_however_it_is_chunked(week: pa.Table) -> None:
    digest = open_source(week).digest
    pieces = pa.concat_tables([week.slice(0, 1), week.slice(1, 777), week.slice(778)])
    assert open_source(pieces).digest == digest
    late = week.filter(pa.array([True] * week.num_rows))
    assert open_source(late).digest == digest
    assert open_source(week.slice(1)).digest != digest


def test_what_lies_under_a_missing_value_does_not_count() -> None:
    values = pa.array([1.0, 2.0, 3.0])
    mask = pa.array([False, True, False]).buffers()[1]
    valid = pa.array([True, False, True]).buffers()[1]
    assert mask is not None
    hidden = pa.Array.from_buffers(pa.float64(), 3, [valid, values.buffers()[1]])
    assert hidden.to_pylist() == [1.0, None, 3.0]
    plain = pa.array([1.0, None, 3.0])
    assert open_source(pa.table({"x": hidden})).digest == open_source(pa.table({"x": plain})).digest


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "b", "a"]).dictionary_encode(),
        pa.array([[1], None, [], [2, 3]]),
        pa.array([True, None, False, True]),
        pa.array([{"a": 1}, {"a": None}, None, {"a": 2}]),
        pa.array(["a", None, "b", "a"], pa.string_view()),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_every_kind_have_a_digest(column: pa.Array) -> None:
    table = pa.table({"x": column})
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    assert open_source(pieces).digest == open_source(table).digest
    turned = pa.table({"x": pa.array(column.to_pylist()[::-1], column.type)})
    assert open_source(turned).digest != open_source(table).digest


def test_dictionaries_of_numbers_are_kept_as_numbers(store: Store) -> None:
    # As pandas has categories of whole numbers: the version was added, and nobody could read it.
    table = pa.table({"x": pa.array([7, None, 8, 7]).dictionary_encode()})
    source = open_source(table)
    kept = source.keep(store)
    assert as_table(StoredRows(store, kept.manifest)).to_pydict() == {"x": [7, None, 8, 7]}
    assert source.schema.field("x").type == pa.int64()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string_view()),
        pa.large_list(pa.binary_view()),
        pa.struct([("a", pa.list_(pa.string_view(), 1))]),
        pa.map_(pa.string_view(), pa.string_view()),
    ],
    ids=str,
)
def test_texts_within_lists_are_filtered(kind: pa.DataType, tmp_path: Path) -> None:
    """Polars has views of texts; `data add` broke over a null beside them."""
    table = pa.table({"x": pa.nulls(3, kind)})
    pq.write_table(table, tmp_path / "t.parquet")
    for source in (open_source(table), open_source(tmp_path / "t.parquet")):
        statistics = Statistics(source.schema)
        for batch in source.batches():
            statistics.feed(batch)
        assert [each.missing for each in statistics.columns()] == [3]


def test_what_parquet_cannot_hold_is_refused(store: Store) -> None:
    for column in (pa.array([{}, {}]), pa.array(["a", None]).dictionary_encode("encode")):
        with pytest.raises(DataError, match=r"the table cannot be kept as Parquet: .*; give the"):
            open_source(pa.table({"x": column})).keep(store)


def test_of_a_version_the_columns_that_are_asked_for_are_loaded(
    week: pa.Table, ledger: Ledger, store: Store
) -> None:
    # A training held all of them in memory, and sorted them.
    dataset = add_dataset(ledger, store, week.append_column("note", week["origin"]), SCHEMA)
    names = ["carrier", "temp", "late", "scheduled_at"]
    assert list(SCHEMA.columns) == names
    assert load_dataset(store, dataset, names).equals(week.select(names))
    with pytest.raises(DataError, match="column 'fog' is missing; the table has scheduled_at, car"):
        load_dataset(store, dataset, ["late", "fog"])


def test_names_of_files_do_not_count(week: pa.Table, tmp_path: Path) -> None:
    a_folder(week, tmp_path)
    before = open_source(tmp_path / "parts").digest
    deep = tmp_path / "parts" / "deep"
    (deep / "0.parquet").rename(deep / "z.parquet")
    (deep / "1.parquet").rename(deep / "0.parquet")
    assert open_source(tmp_path / "parts").digest == before


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


def test_files_are_read_in_the_widest_of_their_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [0.5]}), tmp_path / "b.parquet")
    assert as_table(open_source(tmp_path))["x"].to_pylist() == [1.0, 0.5]


def test_a_text_of_several_lines_is_one_row_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a file beyond 32 MiB a block ended within a text; its second line became a row of its own.
    monkeypatch.setattr(formats, "_CSV_BLOCK_BYTES", 64)
    rows = [{"id": number, "text": f"first line\n{number},second line"} for number in range(50)]
    path = tmp_path / "texts.csv"
    csv.write_csv(pa.Table.from_pylist(rows), path)
    assert as_table(open_source(path)).to_pylist() == rows


@pytest.mark.parametrize(
    ("early", "late", "kind"),
    [
        ("", "7", pa.int64()),
        ("", "late", pa.string()),
        ("1", "1.5", pa.float64()),
        ("2013-01-01 00:00:00", "2013-01-01 00:00:00.5", pa.timestamp("ns")),
    ],
)
def test_all_values_of_a_csv_tell_its_types(
    early: str, late: str, kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a file beyond 32 MiB the first block did, and a value behind it was a conversion error.
    monkeypatch.setattr(formats, "_CSV_BLOCK_BYTES", 256)
    path = tmp_path / "late.csv"
    lines = [f"{number},{early},{early}" for number in range(100)]
    path.write_text("\n".join(["row,a,b", *lines, f"100,{late},{early}", f"101,,{late}"]) + "\n")
    source = open_source(path)
    assert [field.type for field in source.schema] == [pa.int64(), kind, kind]
    table = as_table(source)
    assert table.num_rows == 102
    assert table["a"].null_count == 1 + 100 * (early == "")


def test_columns_of_a_csv_are_read_as_they_are_written_where_that_is_asked(
    tmp_path: Path,
) -> None:
    # A category of digits was "int64, not category", and of 007 the zeros were lost.
    (tmp_path / "1.csv").write_text("zip,open,x\n00501,true,1\n,false,2\n")
    (tmp_path / "2.csv").write_text("zip,open,x\nA1,true,3\n501,maybe,4\n")
    rows = as_table(open_source(tmp_path, texts=["zip", "open", "colour"]))
    assert rows.to_pydict() == {
        "zip": ["00501", None, "A1", "501"],
        "open": ["true", "false", "true", "maybe"],
        "x": [1, 2, 3, 4],
    }
    with pytest.raises(DataError, match=r"2\.csv has other types than the files before it"):
        open_source(tmp_path)


def test_an_empty_text_of_a_csv_is_missing_like_an_empty_number(
    tmp_path: Path, ledger: Ledger, store: Store
) -> None:
    # It was the category "": no rule on missing values saw it, and a null was encoded otherwise.
    path = tmp_path / "t.csv"
    lines = ["t,carrier,x,late", '2013-01-01T00:00:00Z,"",1,0', "2013-01-01T00:00:00Z,NA,,1",
             "2013-01-01T00:00:00Z,,2,0", "2013-01-01T00:00:00Z,UA,2,1"]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    table = as_table(open_source(path))
    assert table["carrier"].to_pylist() == [None, "NA", None, "UA"]
    assert table["x"].to_pylist() == [1, None, 2, 2]
    schema = TableSchema(
        dataset="d",
        target="late",
        event_time="t",
        features=(Feature(name="carrier", kind="category", max_missing=0.4),),
    )
    with pytest.raises(ExpectationError, match=r"at most 0\.4. is broken by 2 of 4 rows"):
        add_dataset(ledger, store, open_source(path), schema)


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
