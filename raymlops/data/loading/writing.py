"""Writes the files that `MappedSource` reads: a chunk at a time in memory, published whole."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading.fields import Field, fields_of
from raymlops.data.loading.layout import Layout
from raymlops.data.loading.source import Columns
from raymlops.errors import DataError


def write_arrays(
    path: str | Path, columns: Sequence[NDArray[Any]], *, rows_per_chunk: int | None = None
) -> None:
    """The rows of arrays of one length, [rows, ...] each; see `write_blocks`."""
    lengths = [len(column) for column in columns]
    if not lengths or len(set(lengths)) > 1:
        raise DataError(f"the columns have {lengths} rows; give columns of one length")
    write_blocks(path, [tuple(columns)], num_rows=lengths[0], rows_per_chunk=rows_per_chunk)


def write_blocks(
    path: str | Path,
    blocks: Iterable[Columns],
    *,
    num_rows: int,
    rows_per_chunk: int | None = None,
) -> None:
    """Makes `path` the file of the rows of all blocks, one after the other.

    Blocks have any lengths; the first says, empty or not, what the columns are. A block and a
    chunk, of `rows_per_chunk` or about a mebibyte, are in memory. The file appears when it is
    complete and on the disk.

    Raises:
        DataError: there is no block, one has other columns than the first, they cannot be mapped,
            or do not have `num_rows` rows together. What was at `path` stays.
    """
    path = Path(path)
    staged = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with staged.open("xb", buffering=0) as file:
            _write(file.fileno(), iter(blocks), num_rows, rows_per_chunk)
            os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(file: int, blocks: Any, num_rows: int, rows_per_chunk: int | None) -> None:
    first = next(blocks, None)
    if first is None:
        raise DataError("there is no block to write; give one, if need be an empty one")
    fields = tuple(Field(field.dtype.newbyteorder("<"), field.shape) for field in fields_of(first))
    chunks = _Chunks(file, Layout.of(fields, num_rows, rows_per_chunk))
    chunks.add(first)
    for block in blocks:
        chunks.add(block)
    chunks.finish()


class _Chunks:
    """Fills a chunk, then writes and hashes it."""

    def __init__(self, file: int, layout: Layout) -> None:
        self._file = file
        self._layout = layout
        rows = min(layout.rows_per_chunk, layout.num_rows)
        self._buffers = layout.empty(rows)
        self._num_rows = 0
        self._digests: list[bytes] = []
        os.ftruncate(file, layout.offsets[-1])

    def add(self, block: Columns) -> None:
        self._check(block)
        num_rows = len(block[0])
        if self._num_rows + num_rows > self._layout.num_rows:
            raise DataError(
                f"the blocks have at least {self._num_rows + num_rows} rows, "
                f"{self._layout.num_rows} were announced"
            )
        start = 0
        while start < num_rows:
            filled = self._num_rows % self._layout.rows_per_chunk
            count = min(num_rows - start, self._layout.rows_per_chunk - filled)
            for column, buffer in zip(block, self._buffers, strict=True):
                buffer[filled : filled + count] = column[start : start + count]
            start += count
            self._num_rows += count
            if filled + count == self._layout.rows_per_chunk:
                self._flush()

    def finish(self) -> None:
        if self._num_rows < self._layout.num_rows:
            raise DataError(
                f"the blocks have {self._num_rows} rows, {self._layout.num_rows} were announced"
            )
        if len(self._digests) < self._layout.num_chunks:
            self._flush()
        _write_all(self._file, self._layout.header(self._digests), 0)

    def _flush(self) -> None:
        chunk = len(self._digests)
        rows = self._layout.rows_of(chunk)
        digest = hashlib.sha256()
        for buffer, (start, _) in zip(self._buffers, self._layout.spans_of(chunk), strict=True):
            content = buffer[: len(rows)].reshape(-1).view(np.uint8).data
            digest.update(content)
            _write_all(self._file, content, start)
        self._digests.append(digest.digest())

    def _check(self, block: Columns) -> None:
        lengths = [len(column) for column in block]
        if len(set(lengths)) > 1:
            raise DataError(f"the columns of a block have {lengths} rows; give them one length")
        found = tuple(
            Field(field.dtype.newbyteorder("<"), field.shape) for field in fields_of(block)
        )
        if found != self._layout.fields:
            raise DataError(
                f"a block after {self._num_rows} rows has columns {_shown(found)}, the first has "
                f"{_shown(self._layout.fields)}"
            )


def _shown(fields: tuple[Field, ...]) -> str:
    return ", ".join(map(str, fields)) or "none"


def _write_all(file: int, content: bytes | memoryview, offset: int) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
