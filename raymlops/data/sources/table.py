"""A table in memory."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raymlops.data.sources.base import (
    BATCH_BYTES,
    BATCH_ROWS,
    SCHEMA_FILE,
    Kept,
    check_names,
    storable,
)
from raymlops.errors import NO_ROOM, DataError
from raymlops.storage import Store

_FILE = "table.parquet"
_DIGEST_ROWS = 1 << 16  # a part of every digest, whatever batches have


class TableSource:
    """An Arrow table; its digest is over its values, not over how they lie in chunks or files."""

    format = "parquet"
    origin: Mapping[str, Any] | None = None

    def __init__(self, table: pa.Table) -> None:
        check_names("the table", table.schema)
        self._table = table.cast(storable(table.schema))

    @property
    def schema(self) -> pa.Schema:
        return self._table.schema

    @cached_property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for field, column in zip(self.schema, self._table.columns, strict=True):
            digest.update(f"{field.name}\0{field.type}\0{len(column)}\0".encode())
            for part in _parts(column):
                _update(digest, part)
        return digest.hexdigest()

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        table = self._table if columns is None else self._table.select(list(columns))
        return iter(table.to_batches(max_chunksize=BATCH_ROWS))

    def keep(self, store: Store) -> Kept:
        with tempfile.TemporaryDirectory(prefix="raymlops-") as folder:
            path = Path(folder) / _FILE
            try:
                write_parquet(self.batches(), self.schema, path)
            except pa.ArrowException as error:
                raise DataError(
                    f"the table cannot be kept as Parquet: {error}; give the column another type"
                ) from error
            schema = self.schema.serialize().to_pybytes()
            return Kept(
                manifest=store.put_tree({_FILE: path, SCHEMA_FILE: schema}),
                size_bytes=path.stat().st_size,
            )


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Writes rows as they come; memory holds one row group.

    Raises:
        DataError: there is no room for them.
    """
    with _needing_room(path.parent), pq.ParquetWriter(path, schema, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        for batch in batches:
            group.append(batch)
            if _fills_group(group):
                writer.write_table(pa.Table.from_batches(group, schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group, schema))


def _fills_group(batches: Sequence[pa.RecordBatch]) -> bool:
    num_rows: int = sum(each.num_rows for each in batches)
    size_bytes: int = sum(each.nbytes for each in batches)
    return num_rows >= 16 * BATCH_ROWS or size_bytes >= 4 * BATCH_BYTES


@contextlib.contextmanager
def _needing_room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DataError(
            f"there is no room in {folder} for a Parquet file: {error}; free some space, or where "
            "it is a temporary folder set TMPDIR to one with more"
        ) from error


def _parts(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """The column in pieces that start at multiples of _DIGEST_ROWS, however it is chunked."""
    for start in range(0, len(column), _DIGEST_ROWS):
        part = column.slice(start, _DIGEST_ROWS).combine_chunks()
        yield part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part


def _update(digest: Any, part: pa.Array) -> None:
    """Feeds the values of an array, wherever its buffers begin and whatever lies under nulls."""
    part = _canonical(part)
    known = pc.drop_null(part)
    digest.update(_bytes(pc.is_valid(part).cast(pa.uint8())))
    if pa.types.is_nested(part.type):
        digest.update(repr(known.to_pylist()).encode())  # slow; children have nulls of their own
    else:
        digest.update(_bytes(known))


def _canonical(part: pa.Array) -> pa.Array:
    kind = part.type
    if pa.types.is_dictionary(kind):
        return _canonical(part.cast(kind.value_type))
    if pa.types.is_boolean(kind):
        return part.cast(pa.uint8())
    if pa.types.is_string_view(kind):
        return part.cast(pa.string())
    if pa.types.is_binary_view(kind):
        return part.cast(pa.binary())
    return part


def _bytes(values: pa.Array) -> bytes:
    """The buffers of an array without nulls; concatenating copies them to begin at its values."""
    buffers = pa.concat_arrays([values]).buffers()[1:]
    return b"".join(buffer.to_pybytes() for buffer in buffers if buffer is not None)
