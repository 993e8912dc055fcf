from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data.sources.base import BATCH_BYTES
from raymlops.errors import DataError
from raymlops.serve.offline.parts import Parts, parquet_files, spans


def rows(parts: Parts, name: str) -> list[object]:
    """What the parts hold, read where they were sent to, three rows at a time."""
    sent: Parts = pickle.loads(pickle.dumps(parts))
    numbers = range(len(sent.fragments))
    batches = [batch for number in numbers for batch in sent.batches(number, num_rows=3)]
    assert all(batch.num_rows <= 3 for batch in batches)
    return [value for batch in batches for value in batch[name].to_pylist()]


def test_only_parquet_is_read(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "rows.csv").write_text("radius\n1\n")
    for source in (tmp_path / "csv", tmp_path / "csv" / "rows.csv"):
        with pytest.raises(
            DataError, match=r"is no Parquet file \(.parquet\), nor a folder of them"
        ):
            parquet_files(source)
    with pytest.raises(DataError, match="there is no"):
        parquet_files(tmp_path / "none.parquet")
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"radius": [1.0]}), path)
    assert parquet_files(path) == parquet_files(tmp_path) == [str(path)]


def test_small_neighbours_are_read_together() -> None:
    assert spans([5, 5, 20, 3, 4, 4, 2], 10) == [range(2), range(2, 3), range(3, 6), range(6, 7)]
    assert spans([0, 7, 0], 10) == [range(3)]
    assert spans([0], 10) == spans([], 10) == []


def test_rows_come_in_the_order_of_files_as_all_can_be_read(tmp_path: Path) -> None:
    for year, name, table in (
        (2014, "a", pa.table({"row": [6.5], "gate": ["A"]})),
        (2013, "b", pa.table({"row": [4, 5], "late": [True, None]})),
        (2013, "a", pa.table({"row": [0, 1, 2, 3]})),
    ):
        (tmp_path / f"year={year}").mkdir(exist_ok=True)
        path = tmp_path / f"year={year}" / f"{name}.parquet"
        pq.write_table(table, path, row_group_size=1)
    pq.write_table(pa.table({"row": ["half"]}), tmp_path / "_temporary.parquet")
    parts = Parts.of(tmp_path)
    assert rows(parts, "row") == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.5]
    assert rows(parts, "late") == [None] * 4 + [True] + [None] * 2
    assert rows(parts, "year") == [2013] * 6 + [2014]
    assert {*parts.schema.names} == {"row", "late", "gate", "year"}


def test_of_no_rows_there_is_one_part(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row": pa.array([], pa.int64())}), tmp_path / "none.parquet")
    parts = Parts.of(tmp_path)
    assert len(parts.fragments) == 1
    assert rows(parts, "row") == []


def test_files_that_cannot_be_read_together_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"row": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"row": [[1]]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="cannot be read: Unable to merge: Field row"):
        Parts.of(tmp_path)
    doubled = pa.table([pa.array([1]), pa.array([2])], names=["row", "row"])
    pq.write_table(doubled, tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has several columns named row; rename them"):
        Parts.of(tmp_path)


def test_long_texts_come_in_small_batches(tmp_path: Path) -> None:
    """A text that is in its dictionary once, however many rows have it, unpacked to 8,192 of it."""
    text, file = "x" * (1 << 16), tmp_path / "rows.parquet"
    table = pa.table({"note": [text] * 4000, "number": range(4000)})
    pq.write_table(table, file, row_group_size=2000)
    assert file.stat().st_size < 1 << 20
    parts = Parts.of(tmp_path)
    batches = [
        batch
        for number in range(len(parts.fragments))
        for batch in parts.batches(number, num_rows=8192)
    ]
    assert max(batch.nbytes for batch in batches) <= BATCH_BYTES
    assert pa.Table.from_batches(batches).column("number").to_pylist() == list(range(4000))
