"""Dataset versions: checked rows in the store, numbered in the ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.expectations import examine, refuse
from raymlops.data.rules import Batches
from raymlops.data.schema import TableSchema
from raymlops.data.sources import DeltaRows, Source, StoredRows, TableSource, open_source
from raymlops.errors import DataError, NotFoundError
from raymlops.ledger import Dataset, Ledger
from raymlops.storage import Store


def add_dataset(
    ledger: Ledger,
    store: Store,
    rows: pa.Table | Source,
    schema: TableSchema,
    *,
    description: str = "",
) -> Dataset:
    """The version that holds `rows`; the same content again is the same version.

    The rows are read once, in bounded memory, for all rules and statistics. A report of every rule
    goes into the ledger, also when the rows are refused.

    Raises:
        ExpectationError: the rows break a rule of `schema`; nothing is stored.
        DataError: they cannot be read, or change meanwhile.
    """
    source = TableSource(rows) if isinstance(rows, pa.Table) else rows
    name, digest = schema.dataset, source.digest
    found = examine(source, schema, Versions(ledger, store, name))
    ledger.datasets.record_checks(name, digest, found.findings)
    refuse(name, found.findings, digest)
    known = ledger.datasets.find(name, digest)
    if known is not None and store.exists(known.manifest):
        return known
    kept = source.keep(store)
    return ledger.datasets.add(
        name=name,
        digest=digest,
        manifest=kept.manifest,
        fields=tuple((field.name, str(field.type)) for field in source.schema),
        num_rows=found.num_rows,
        size_bytes=kept.size_bytes,
        description=description,
        format=source.format,
        source=source.origin,
        statistics=tuple(column.to_dict() for column in found.statistics),
    )


def open_dataset(store: Store, dataset: Dataset) -> Batches:
    """The rows of a dataset version, to be read in bounded memory.

    Raises:
        DataError: it is a Delta table that changed or was vacuumed since.
        IntegrityError: the store's bytes are not those that were recorded.
    """
    rows = DeltaRows if dataset.format == "delta" else StoredRows
    return rows(store, dataset.manifest)


def load_dataset(store: Store, dataset: Dataset, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a dataset version, or `columns` of it, its bytes verified; raises as
    `open_dataset`."""
    return as_table(open_dataset(store, dataset), columns)


def as_table(rows: Batches, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows, of `columns` or of all.

    Raises:
        DataError: they lack a column.
    """
    schema = rows.schema
    if columns is not None:
        for name in columns:
            if name not in schema.names:
                raise DataError(
                    f"column '{name}' is missing; the table has {', '.join(schema.names)}"
                )
        schema = pa.schema(map(schema.field, columns))
    return pa.Table.from_batches(rows.batches(columns), schema)


def read_table(path: str | Path | Sequence[str | Path], *, texts: Collection[str] = ()) -> pa.Table:
    """What `open_source` reads, as an Arrow table.

    Raises:
        DataError: it is missing, of another kind, or malformed.
    """
    return as_table(open_source(path, texts=texts))


def between(table: pa.Table, column: str, start: datetime | None, end: datetime) -> pa.Table:
    """The rows whose time in `column` lies in [start, end); without `start` all before `end`."""
    times = table[column]
    inside = pc.less(times, pa.scalar(end, times.type))
    if start is not None:
        inside = pc.and_(inside, pc.greater_equal(times, pa.scalar(start, times.type)))
    return table.filter(inside)


@dataclass(frozen=True)
class Versions:
    """The versions of dataset `name`, as references for rules about drift."""

    ledger: Ledger
    store: Store
    name: str

    def reference(self, version: int | None) -> tuple[str, Batches] | None:
        try:
            dataset = self.ledger.datasets.get(self.name, version)
        except NotFoundError:
            if version is not None:
                raise
            return None
        return f"version {dataset.version}", open_dataset(self.store, dataset)
