"""How rows lie in a file: a header that proves itself, then each column in one piece.

    magic, version, lengths, digest of what follows
    JSON: fields, number of rows, rows a chunk
    SHA-256 of each chunk
    column 0: [rows, ...]     a chunk is a range of rows over all columns
    column 1: [rows, ...]

A column in one piece makes a shuffled batch one gather a column, however many chunks it touches.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np

from raymlops.data.loading.fields import Field
from raymlops.data.loading.source import Columns
from raymlops.errors import DataError, IntegrityError

CHUNK_BYTES = 1 << 20
"""A chunk's size where nobody says otherwise: small beside a cache, large beside a disk's seek."""

VERSION = 1

_MAGIC = b"raymlops rows\n\x00\x00"
_PREFIX = struct.Struct("<16sIIQ32s")  # magic, version, bytes of JSON, number of chunks, digest
_DIGEST_BYTES = 32
_ALIGNMENT_BYTES = 1 << 16  # the largest page of any machine we know
_KINDS = "biufc"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each row and each chunk is."""

    fields: tuple[Field, ...]
    num_rows: int
    rows_per_chunk: int

    def __post_init__(self) -> None:
        if not self.fields or self.num_rows < 0 or self.rows_per_chunk < 1:
            raise DataError(
                f"{len(self.fields)} columns of {self.num_rows} rows in chunks of "
                f"{self.rows_per_chunk} are no rows; give a column, and chunks of at least one row"
            )
        for field in self.fields:
            if field.dtype.kind not in _KINDS or field.dtype.byteorder == ">":
                raise DataError(
                    f"a column of {field} cannot be mapped; encode it as little-endian booleans, "
                    "integers or floats first"
                )

    @classmethod
    def of(cls, fields: tuple[Field, ...], num_rows: int, rows_per_chunk: int | None) -> Layout:
        """With chunks of about a mebibyte where `rows_per_chunk` is None."""
        row_bytes = max(1, sum(field.row_bytes for field in fields))
        rows = max(1, CHUNK_BYTES // row_bytes) if rows_per_chunk is None else rows_per_chunk
        return cls(fields=fields, num_rows=num_rows, rows_per_chunk=rows)

    @cached_property
    def row_bytes(self) -> int:
        return sum(field.row_bytes for field in self.fields)

    @property
    def num_chunks(self) -> int:
        return -(-self.num_rows // self.rows_per_chunk)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each column begins, and last where the file ends."""
        found = [_aligned(_PREFIX.size + len(self._json()) + _DIGEST_BYTES * self.num_chunks)]
        for field in self.fields[:-1]:
            found.append(_aligned(found[-1] + field.row_bytes * self.num_rows))
        return (*found, found[-1] + self.fields[-1].row_bytes * self.num_rows)

    def rows_of(self, chunk: int) -> range:
        start = chunk * self.rows_per_chunk
        return range(start, min(start + self.rows_per_chunk, self.num_rows))

    def spans_of(self, chunk: int) -> tuple[tuple[int, int], ...]:
        """The bytes of a chunk, [start, end) a column."""
        rows = self.rows_of(chunk)
        return tuple(
            (offset + rows.start * field.row_bytes, offset + rows.stop * field.row_bytes)
            for field, offset in zip(self.fields, self.offsets, strict=False)
        )

    def empty(self, num_rows: int) -> Columns:
        """Arrays for so many rows, their values undefined."""
        return tuple(np.empty((num_rows, *field.shape), field.dtype) for field in self.fields)

    def columns_in(self, buffer: Any) -> Columns:
        """The columns as views of a buffer that holds the file."""
        return tuple(
            np.ndarray((self.num_rows, *field.shape), field.dtype, buffer, offset)
            for field, offset in zip(self.fields, self.offsets, strict=False)
        )

    def header(self, digests: Sequence[bytes]) -> bytes:
        text, table = self._json(), b"".join(digests)
        assert len(digests) == self.num_chunks
        digest = hashlib.sha256(text + table).digest()
        return _PREFIX.pack(_MAGIC, VERSION, len(text), len(digests), digest) + text + table

    def _json(self) -> bytes:
        fields = [{"dtype": field.dtype.str, "shape": field.shape} for field in self.fields]
        return json.dumps(
            {"fields": fields, "num_rows": self.num_rows, "rows_per_chunk": self.rows_per_chunk}
        ).encode()


@dataclass(frozen=True, kw_only=True)
class Header:
    """A layout, the digest of each chunk, and `digest` over both, which names the content."""

    layout: Layout
    digests: tuple[bytes, ...]
    digest: str


def read_header(file: BinaryIO, name: object, size_bytes: int) -> Header:
    """The header of a file of this size.

    Raises:
        DataError: it is no file of rows, or of a version that is not known here.
        IntegrityError: the header is damaged, or chunks are missing at the end.
    """
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size or not prefix.startswith(_MAGIC):
        raise DataError(f"{name} holds no rows of raymlops; write them with write_arrays")
    _, version, json_bytes, num_chunks, digest = _PREFIX.unpack(prefix)
    if version != VERSION:
        raise DataError(
            f"{name} has version {version} of the format, this raymlops reads {VERSION}; "
            "read it with the raymlops that wrote it, or write it anew"
        )
    table_bytes = _DIGEST_BYTES * num_chunks
    if json_bytes + table_bytes > size_bytes:
        raise IntegrityError(f"{name} ends within its header, after {size_bytes} bytes")
    text, table = file.read(json_bytes), file.read(table_bytes)
    if hashlib.sha256(text + table).digest() != digest:
        raise IntegrityError(f"the header of {name} is damaged; write the file anew")
    layout = _layout(text)
    header = Header(
        layout=layout,
        digests=tuple(
            table[start : start + _DIGEST_BYTES] for start in range(0, table_bytes, _DIGEST_BYTES)
        ),
        digest=digest.hex(),
    )
    check_size(layout, name, size_bytes)
    return header


def check_size(layout: Layout, name: object, size_bytes: int) -> None:
    """Raises IntegrityError, which names the first chunk that is not whole."""
    if size_bytes == layout.offsets[-1]:
        return
    # The file ends in its last column, or a column begins beyond its end.
    ends = (max(end for _, end in layout.spans_of(chunk)) for chunk in range(layout.num_chunks))
    cut = next((chunk for chunk, end in enumerate(ends) if end > size_bytes), None)
    where = "" if cut is None else f"; {name_of(layout, cut)} is the first that is not whole"
    raise IntegrityError(
        f"{name} has {size_bytes} bytes, its header speaks of {layout.offsets[-1]}{where}: "
        "write the file anew"
    )


def name_of(layout: Layout, chunk: int) -> str:
    rows = layout.rows_of(chunk)
    return f"chunk {chunk} of {layout.num_chunks} (rows {rows.start} to {rows.stop - 1})"


def _layout(text: bytes) -> Layout:
    found = json.loads(text)
    return Layout(
        fields=tuple(
            Field(np.dtype(field["dtype"]), tuple(field["shape"])) for field in found["fields"]
        ),
        num_rows=found["num_rows"],
        rows_per_chunk=found["rows_per_chunk"],
    )


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
