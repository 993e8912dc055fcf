from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import TableSchema, add_dataset, as_table, open_source
from raymlops.data.sources.base import check_names
from raymlops.errors import DataError
from raymlops.ledger import Ledger
from raymlops.storage import Store
from tests.disks import output_on_small_disk

NOBODY = 65534


def empty_parquet(folder: Path, table: pa.Table) -> Path:
    (folder / "t.parquet").touch()
    return folder / "t.parquet"


def empty_csv(folder: Path, table: pa.Table) -> Path:
    (folder / "t.csv").touch()
    return folder / "t.csv"


def truncated_parquet(folder: Path, table: pa.Table) -> Path:
    path = folder / "t.parquet"
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def damaged_parquet(folder: Path, table: pa.Table) -> Path:
    """Its footer is whole, its pages are not."""
    path = folder / "t.parquet"
    pq.write_table(table, path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 20_000 + content[20_004:])
    return path


def ragged_csv(folder: Path, table: pa.Table) -> Path:
    (folder / "t.csv").write_text("a,b\n1,2\n3\n")
    return folder / "t.csv"


def latin_csv(folder: Path, table: pa.Table) -> Path:
    (folder / "t.csv").write_bytes("a,b\nZürich,1\n".encode("latin-1"))
    return folder / "t.csv"


def latin_header(folder: Path, table: pa.Table) -> Path:
    (folder / "t.csv").write_bytes("a,größe\n1,2\n".encode("latin-1"))
    return folder / "t.csv"


def doubled_csv(folder: Path, table: pa.Table) -> Path:
    (folder / "t.csv").write_text("a,b,a\n1,2,3\n")
    return folder / "t.csv"


def doubled_parquet(folder: Path, table: pa.Table) -> Path:
    path = folder / "t.parquet"
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), path)
    return path


def other_columns(folder: Path, table: pa.Table) -> Path:
    pq.write_table(pa.table({"a": [1], "b": [2]}), folder / "1.parquet")
    pq.write_table(pa.table({"a": [1], "c": [2]}), folder / "2.parquet")
    return folder


def other_types(folder: Path, table: pa.Table) -> Path:
    pq.write_table(pa.table({"a": [1]}), folder / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), folder / "2.parquet")
    return folder


def mixed_kinds(folder: Path, table: pa.Table) -> Path:
    pq.write_table(pa.table({"a": [1]}), folder / "1.parquet")
    (folder / "2.csv").write_text("a\n1\n")
    return folder


def stranger(folder: Path, table: pa.Table) -> Path:
    pq.write_table(pa.table({"a": [1]}), folder / "1.parquet")
    (folder / "notes.txt").write_text("mind the gap")
    return folder


def other_partitions(folder: Path, table: pa.Table) -> Path:
    for name in ("year=2013", "month=1"):
        (folder / name).mkdir()
        pq.write_table(pa.table({"a": [1]}), folder / name / "1.parquet")
    return folder


def partition_in_file(folder: Path, table: pa.Table) -> Path:
    (folder / "a=1").mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "a=1" / "1.parquet")
    return folder


def linked_in_a_circle(folder: Path, table: pa.Table) -> Path:
    (folder / "below").mkdir()
    (folder / "below" / "again").symlink_to(folder)
    return folder


def linked_to_nowhere(folder: Path, table: pa.Table) -> Path:
    (folder / "t.parquet").symlink_to(folder / "gone.parquet")
    return folder


def linked_to_itself(folder: Path, table: pa.Table) -> Path:
    (folder / "t.parquet").symlink_to(folder / "t.parquet")
    return folder


def nothing(folder: Path, table: pa.Table) -> Path:
    return folder


def missing(folder: Path, table: pa.Table) -> Path:
    return folder / "none.parquet"


BAD: list[tuple[Callable[[Path, pa.Table], Path], str]] = [
    (empty_parquet, r"t\.parquet cannot be read: .* 0 bytes"),
    (empty_csv, r"t\.csv is empty; its first line names the columns"),
    (truncated_parquet, r"t\.parquet cannot be read: .*[Mm]agic bytes"),
    (damaged_parquet, r"t\.parquet cannot be read: "),
    (ragged_csv, r"t\.csv line 3 has 1 value, the header names 2 columns: '3'"),
    (latin_csv, r"t\.csv: column 'a': line 2 is not UTF-8 at 'Z\\xfcrich,1'; convert.* iconv"),
    (latin_header, r"t\.csv has a column whose name is not UTF-8, b'gr\\xf6\\xdfe'; convert the"),
    (doubled_csv, r"t\.csv has several columns named a; rename them"),
    (doubled_parquet, r"t\.parquet has several columns named a; rename them"),
    (other_columns, r"2\.parquet has other columns than .*1\.parquet: without b, besides c"),
    (other_types, r"2\.parquet has other types than the files before it: .*'?a'?"),
    (mixed_kinds, r"files of one kind, not of several: .*1\.parquet and .*2\.csv"),
    (stranger, r"notes\.txt is neither \.parquet nor \.csv"),
    (other_partitions, r"folders name different partition columns: month, year"),
    (partition_in_file, r"has several columns named a"),
    (linked_in_a_circle, r"again is a link back to a folder above it; remove the link"),
    (linked_to_nowhere, r"t\.parquet is a link to nowhere"),
    (linked_to_itself, r"t\.parquet is a link to nowhere"),
    (nothing, r"holds no \.parquet or \.csv file"),
    (missing, r"none\.parquet cannot be read: "),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=lambda each: getattr(each, "__name__", ""))
def test_what_cannot_be_read_is_refused_and_leaves_nothing(
    make: Callable[[Path, pa.Table], Path],
    message: str,
    tmp_path: Path,
    tumours: pa.Table,
    tumour_schema: TableSchema,
    ledger: Ledger,
    store: Store,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = make(folder, tumours)
    with pytest.raises(DataError, match=message):
        add_dataset(ledger, store, open_source(path), tumour_schema)
    assert ledger.datasets.list() == []
    assert not Path(store.uri).exists()


def test_a_file_without_permission_is_refused(tmp_path: Path, tumours: pa.Table) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(tumours, path)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # whom nothing is forbidden
        os.seteuid(NOBODY)
    try:
        with pytest.raises(DataError, match=r"t\.parquet cannot be read: .*Permission denied"):
            open_source(path)
    finally:
        if root:
            os.seteuid(0)


def test_a_list_is_of_files_that_are_told_apart(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="the list of files is empty"):
        open_source([])
    with pytest.raises(DataError, match="a file is listed twice"):
        open_source([tmp_path / "t.parquet", tmp_path / "t.parquet"])


def test_only_delta_tables_travel_in_time(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="only a Delta table has versions"):
        open_source(tmp_path / "t.parquet", version=1)


def test_a_value_that_no_longer_fits_its_column_is_named(tmp_path: Path) -> None:
    # The types of a CSV are told by its first 32 MiB; here a text comes after them among numbers.
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1234567,8901234\n" * 2_200_000 + "late,1\n")
    with pytest.raises(DataError, match=r"column 'a' is int64 in the rows before 'late'; correct"):
        as_table(open_source(path))


@pytest.mark.parametrize("value", ["18446744073709551613", "9223372036854775809", "-" + "9" * 400])
def test_whole_numbers_no_double_holds_are_refused(value: str, tmp_path: Path) -> None:
    # Beyond int64 Arrow infers doubles: distinct ids became equal.
    path = tmp_path / "t.csv"
    path.write_text(f"id,x\n1,0.5\n,2\n{value},1.5\n")
    with pytest.raises(
        DataError, match=rf"t\.csv: column 'id' .* cannot tell {value} from .* text"
    ):
        as_table(open_source(path))


def test_whole_numbers_of_two_files_are_refused_where_one_holds_decimals(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n9007199254740993\n")
    (tmp_path / "b.csv").write_text("id\n0.5\n")
    with pytest.raises(DataError, match=r"a\.csv: column 'id' .* cannot tell 9007199254740993"):
        as_table(open_source(tmp_path))


def test_large_decimals_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x\n1e30\n0.1\n9007199254740993.5\n18446744073709551616\n-inf\n\nNA\n")
    assert as_table(open_source(path))["x"].to_pylist() == [
        1e30, 0.1, 9007199254740994.0, 2.0**64, -math.inf, None,
    ]  # fmt: skip


def test_whole_numbers_within_int64_stay_exact(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,x\n9223372036854775807,1\n,2\n-9223372036854775807,3\n")
    assert as_table(open_source(path))["id"].to_pylist() == [2**63 - 1, None, 1 - 2**63]


@pytest.mark.parametrize("made", ["open_source(path)", "TableSource(csv.read_csv(path))"])
def test_a_full_temporary_folder_is_not_taken_for_a_broken_file(made: str, tmp_path: Path) -> None:
    script = f"""
import sys, tempfile
import numpy as np
import pyarrow as pa
from pyarrow import csv
from raymlops.data import open_source
from raymlops.data.sources import TableSource
from raymlops.errors import DataError
from raymlops.storage import Store
path = {str(tmp_path / "numbers.csv")!r}
csv.write_csv(pa.table({{"x": np.random.default_rng(0).normal(size=800_000)}}), path)
tempfile.tempdir = sys.argv[1]
try:
    {made}.keep(Store({str(tmp_path / "store")!r}))
except DataError as error:
    print(error)
"""
    (temporary := tmp_path / "temporary").mkdir()
    (error,) = output_on_small_disk(script, temporary)
    assert error.startswith(f"there is no room in {temporary}")
    assert error.endswith("where it is a temporary folder set TMPDIR to one with more")


def test_the_names_of_a_wide_table_are_held_against_each_other_at_once() -> None:
    """Each was counted among all, which took a quarter of an hour."""
    names = [f"c{number}" for number in range(100_000)]
    check_names("wide", pa.schema([(name, pa.int8()) for name in names]))
