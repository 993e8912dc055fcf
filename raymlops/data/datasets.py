"""Dataset versions: a checked table as Parquet in the store, numbered in the ledger."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raymlops.data.expectations import enforce
from raymlops.data.features import TableSchema
from raymlops.errors import DataError
from raymlops.ledger import Dataset, Ledger
from raymlops.storage import Store

_FILE = "table.parquet"


def add_dataset(
    ledger: Ledger, store: Store, table: pa.Table, schema: TableSchema, *, description: str = ""
) -> Dataset:
    """The version that holds `table`; the same content again is the same version.

    Raises:
        ExpectationError: the table breaks a rule of `schema`; nothing is stored.
    """
    enforce(table, schema)
    data = _parquet(table)
    manifest = store.put_tree({_FILE: data})
    return ledger.datasets.add(
        name=schema.dataset,
        digest=store.tree(manifest)[_FILE],
        manifest=manifest,
        fields=tuple((field.name, str(field.type)) for field in table.schema),
        num_rows=table.num_rows,
        size_bytes=len(data),
        description=description,
    )


def load_dataset(store: Store, dataset: Dataset) -> pa.Table:
    """The table of a dataset version, its bytes verified against the recorded digest."""
    return pq.read_table(io.BytesIO(store.read_tree(dataset.manifest)[_FILE]))


def read_table(path: Path) -> pa.Table:
    """A Parquet or CSV file as an Arrow table.

    Raises:
        DataError: the file is missing, of another kind, or malformed.
    """
    try:
        match path.suffix:
            case ".parquet":
                return pq.read_table(path)
            case ".csv":
                from pyarrow import csv

                return csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    raise DataError(f"{path} is neither .parquet nor .csv")


def between(table: pa.Table, column: str, start: datetime, end: datetime) -> pa.Table:
    """The rows whose time in `column` lies in [start, end)."""
    times = table[column]
    kind = times.type
    inside = pc.and_(
        pc.greater_equal(times, pa.scalar(start, kind)), pc.less(times, pa.scalar(end, kind))
    )
    return table.filter(inside)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
