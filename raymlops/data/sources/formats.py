"""How files are read batch by batch: Parquet and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from raymlops.data.sources.base import BATCH_ROWS
from raymlops.errors import DataError

Kind = Literal["parquet", "csv"]

# Types of a CSV file are told by its first block, so all of a file up to this size decides.
_CSV_BLOCK_BYTES = 32 << 20


def kind_of(name: str) -> Kind:
    """Raises DataError when `name` ends neither in .parquet nor in .csv."""
    match PurePosixPath(name).suffix:
        case ".parquet":
            return "parquet"
        case ".csv":
            return "csv"
    raise DataError(f"{name} is neither .parquet nor .csv")


def schema_of(kind: Kind, path: Path) -> pa.Schema:
    if kind == "parquet":
        return pq.read_schema(path).remove_metadata()
    with csv.open_csv(path, read_options=_csv_blocks()) as reader:
        schema = reader.schema
    for field in schema:
        if pa.types.is_binary(field.type):
            raise DataError(f"{path}: column '{field.name}' is not UTF-8; convert the file")
    return schema


def read(
    kind: Kind, file: Path | pa.NativeFile, schema: pa.Schema, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Batches with the columns of `schema`, or those of them in `columns`, and its types."""
    wanted = schema.names if columns is None else [name for name in columns if name in schema.names]
    target = pa.schema([schema.field(name) for name in wanted])
    batches = _parquet(file, wanted) if kind == "parquet" else _csv(file, target)
    for batch in batches:
        yield batch if batch.schema.equals(target) else batch.select(wanted).cast(target)


def _parquet(file: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:
    # Buffered ahead, every byte of the file would stay in memory until its end.
    with pq.ParquetFile(file, pre_buffer=False) as opened:
        # An empty selection yields batches that count rows but hold no column.
        yield from opened.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def _csv(file: Any, target: pa.Schema) -> Iterator[pa.RecordBatch]:
    options = csv.ConvertOptions(
        column_types={field.name: field.type for field in target}, include_columns=target.names
    )
    with csv.open_csv(file, read_options=_csv_blocks(), convert_options=options) as reader:
        for block in reader:
            for start in range(0, block.num_rows, BATCH_ROWS):
                yield block.slice(start, BATCH_ROWS)


def _csv_blocks() -> csv.ReadOptions:
    return csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
