"""Batches of Parquet files are bounded by rows and by bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import as_table, open_source
from raymlops.data.sources import TableSource, parquet, table
from raymlops.data.sources.parquet import read_parquet
from raymlops.errors import DataError
from raymlops.storage import Store

ROWS = pa.table(
    {
        "x": np.arange(10.0),
        "text": [None, "a", "bb", None, "ccc", "a", "a", "bb", "", "d"],
        "names": [[], ["a"], None, ["b", "a"], [], [], ["c"], [], [], ["a"]],
    }
)


def _written(folder: Path, rows: pa.Table, **options: Any) -> Path:
    path = folder / "t.parquet"
    pq.write_table(rows, path, compression="zstd", store_schema=False, **options)
    return path


def _repeated(text: str, num_rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(num_rows, np.int32), [text])


def _in_lists(text: str, num_rows: int) -> pa.Array:
    empty = 70_000  # the dictionary is not told before the first list with a text in it
    offsets = np.maximum(np.arange(num_rows + empty + 1) - empty, 0).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, _repeated(text, num_rows))


@pytest.mark.parametrize(
    ("column", "options"),
    [
        (_repeated("y" * 100_000, 3_000), {}),
        (_repeated("y" * 100_000, 3_000).cast(pa.string()), {"use_dictionary": False}),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["9" * 100_000] * 3_000)), {}),
        (pa.StructArray.from_arrays([_repeated("y" * 100_000, 3_000)], ["inner"]), {}),
        (_in_lists("y" * 1_000_000, 500), {}),
    ],
    ids=["dictionary", "pages", "extension", "struct", "lists"],
)
def test_batches_are_bounded_by_what_texts_unpack_to(
    column: pa.Array, options: dict[str, Any], tmp_path: Path
) -> None:
    path = _written(tmp_path, pa.table({"text": column}), **options)
    assert path.stat().st_size < 1 << 20
    sizes = [(batch.num_rows, batch.nbytes) for batch in read_parquet(path, ["text"])]
    assert sum(num_rows for num_rows, _ in sizes) == len(column)
    assert max(size_bytes for _, size_bytes in sizes) < 80 << 20


def test_columns_that_are_not_read_bound_nothing(tmp_path: Path) -> None:
    rows = pa.table({"x": np.arange(3_000.0), "text": _repeated("y" * 100_000, 3_000)})
    path = _written(tmp_path, rows)
    assert [batch.num_rows for batch in read_parquet(path, ["x"])] == [3_000]
    assert [batch.num_rows for batch in read_parquet(path, [])] == [3_000]


def test_small_row_groups_are_read_together(tmp_path: Path) -> None:
    path = _written(tmp_path, ROWS, row_group_size=1)
    assert [batch.num_rows for batch in read_parquet(path, ROWS.column_names)] == [10]


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}], ids=["dictionary", "pages"])
def test_a_row_that_fills_more_than_a_batch_is_refused(
    options: dict[str, Any], tmp_path: Path
) -> None:
    path = _written(tmp_path, pa.table({"x": [1, 2], "text": ["a", "y" * (70 << 20)]}), **options)
    with pytest.raises(DataError, match=r"t\.parquet: .* (67|70) MiB, and a row .* at most 64 MiB"):
        as_table(open_source(path))


@pytest.mark.parametrize(
    ("max_rows", "max_bytes", "num_batches"),
    [(1 << 16, 64 << 20, 1), (3, 64 << 20, 4), (9, 100, 3)],
)
def test_the_size_of_batches_changes_neither_rows_nor_digest(
    max_rows: int,
    max_bytes: int,
    num_batches: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Versions are known by their digest: another one would be another version of the same rows.
    source = open_source(_written(tmp_path, ROWS))
    before = source.digest, source.keep(Store(str(tmp_path / "store"))).manifest
    monkeypatch.setattr(parquet, "BATCH_ROWS", max_rows)
    monkeypatch.setattr(table, "BATCH_ROWS", max_rows)
    monkeypatch.setattr(parquet, "BATCH_BYTES", max_bytes)
    source = open_source(tmp_path / "t.parquet")
    assert len(list(source.batches())) == num_batches
    assert as_table(source).equals(ROWS)
    assert (source.digest, source.keep(Store(str(tmp_path / "store"))).manifest) == before
    assert TableSource(ROWS).digest == (
        "668f76f5bada8036f9f83c92bb1ff286d517fcfe9a6b3cd17dbce264e0bbf668"
    )
