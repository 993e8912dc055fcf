from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import as_table, open_source
from raymlops.data.sources import StoredRows
from raymlops.data.statistics import Statistics
from raymlops.errors import DataError
from raymlops.storage import Store


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
