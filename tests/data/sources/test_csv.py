from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from raymlops.data import Feature, TableSchema, add_dataset, as_table, open_source
from raymlops.data.sources import formats
from raymlops.errors import DataError, ExpectationError
from raymlops.ledger import Ledger
from raymlops.storage import Store


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
