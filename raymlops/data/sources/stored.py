"""A dataset version, read back from the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import pyarrow as pa

from raymlops.data.sources import formats
from raymlops.data.sources.base import SCHEMA_FILE
from raymlops.data.sources.partitions import Partitions
from raymlops.storage import Store


class StoredRows:
    """The rows of a tree of Parquet files; one file at a time is in memory, verified."""

    def __init__(self, store: Store, manifest: str) -> None:
        self._store = store
        self._blobs = store.tree(manifest)
        self._schema_blob = self._blobs.pop(SCHEMA_FILE)
        self._partitions = Partitions.of(self._blobs)

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.BufferReader(self._store.get(self._schema_blob)))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        partition = {field.name for field in self._partitions.fields}
        in_files = pa.schema([field for field in self.schema if field.name not in partition])
        for name in sorted(self._blobs):
            file = pa.BufferReader(self._store.get(self._blobs[name]))
            rows = formats.read("parquet", file, in_files, columns)
            yield from self._partitions.read(rows, name, self.schema, columns)
