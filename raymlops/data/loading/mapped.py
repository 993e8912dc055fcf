"""Rows in a memory-mapped file, of which a bounded part is resident."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymlops.data.loading.cache import ChunkCache, Chunks
from raymlops.data.loading.fields import Field
from raymlops.data.loading.layout import check_size, name_of, read_header
from raymlops.data.loading.source import Columns, check_rows, gather
from raymlops.errors import DataError, IntegrityError

CACHE_BYTES = 256 << 20

_PIECE_BYTES = 256 << 10
# Beside a page that is touched the kernel maps those it has in memory already of the window around
# it, so that a column of a chunk may have one window more resident than it fills.
_FAULT_AROUND_BYTES = 64 << 10


class MappedSource:
    """The rows of a file that `write_arrays` and its like have written.

    At most `cache_bytes` of it are resident in this process. The file stays in the kernel's page
    cache, which all processes of a machine share, as long as there is memory to spare. A chunk's
    digest is checked before its first row is handed out, by reading it, not through the mapping:
    so a truncated file or a broken disk is an error here and not the end of the process.

    Threads may share one. Pickled, it is opened again from its path.

    Raises:
        DataError: the file is missing or holds no rows, or the cache is smaller than a chunk.
        IntegrityError: it is damaged; names the chunk. So does `take`.
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = Path(path)
        self.cache_bytes = cache_bytes
        try:
            self._file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        try:
            size_bytes = os.fstat(self._file.fileno()).st_size
            header = read_header(self._file, path, size_bytes)
            self._layout, self._digests = header.layout, header.digests
            self._cache = ChunkCache(self._layout.num_chunks, self._capacity())
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise
        self.digest = header.digest
        self._columns = self._layout.columns_in(self._map)
        self._verified = np.zeros(self._layout.num_chunks, dtype=bool)
        self._changed = threading.Condition()

    @property
    def fields(self) -> tuple[Field, ...]:
        return self._layout.fields

    @property
    def rows_per_chunk(self) -> int:
        return self._layout.rows_per_chunk

    def __len__(self) -> int:
        return self._layout.num_rows

    def take(self, rows: NDArray[np.int64]) -> Columns:
        into = self._layout.empty(len(rows))
        self.take_into(rows, into)
        return into

    def take_into(self, rows: NDArray[np.int64], into: Columns) -> None:
        check_rows(rows, len(self))
        if self._file.closed:
            raise ValueError(f"{self.path} is closed")
        chunks = rows // self._layout.rows_per_chunk
        is_wanted = np.zeros(self._layout.num_chunks, dtype=bool)
        is_wanted[chunks] = True
        distinct = np.flatnonzero(is_wanted)
        if len(distinct) <= self._cache.capacity:
            with self._resident(distinct):
                gather(self._columns, rows, into)
            return
        for start in range(0, len(distinct), self._cache.capacity):
            some = distinct[start : start + self._cache.capacity]
            here = np.flatnonzero((chunks >= some[0]) & (chunks <= some[-1]))
            with self._resident(some):
                for column, target in zip(self._columns, into, strict=True):
                    target[here] = column[rows[here]]

    def close(self) -> None:
        """Gives the file back; calls that are under way may still end well or raise."""
        self._columns = ()
        self._file.close()
        if hasattr(self, "_map"):
            del self._map  # the last view of it unmaps it

    def __enter__(self) -> MappedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (str(self.path), self.cache_bytes, self.digest)

    def _capacity(self) -> int:
        most_bytes = sum(
            (-(-self._layout.rows_per_chunk * field.row_bytes // _FAULT_AROUND_BYTES) + 1)
            * _FAULT_AROUND_BYTES
            for field in self.fields
        )
        if self.cache_bytes < most_bytes:
            raise DataError(
                f"a chunk of {self.path} may have {most_bytes} bytes resident, the cache is "
                f"{self.cache_bytes}; give it more, or write the file with fewer rows_per_chunk"
            )
        return self.cache_bytes // most_bytes

    @contextmanager
    def _resident(self, chunks: Chunks) -> Iterator[None]:
        with self._changed:
            while (leaving := self._cache.hold(chunks)) is None:
                self._changed.wait()
            for chunk in leaving.tolist():
                self._drop(chunk)
        try:
            for chunk in chunks[~self._verified[chunks]].tolist():
                self._verify(chunk)
            yield
        finally:
            with self._changed:
                self._cache.release(chunks)
                self._changed.notify_all()

    def _drop(self, chunk: int) -> None:
        """Unmaps the chunk's pages. Rows of a neighbour on them come back when they are touched."""
        for start, end in self._layout.spans_of(chunk):
            start = max(0, start - start % mmap.PAGESIZE - _FAULT_AROUND_BYTES)
            end = min(end + _FAULT_AROUND_BYTES, len(self._map))
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    def _verify(self, chunk: int) -> None:
        check_size(self._layout, self.path, os.fstat(self._file.fileno()).st_size)
        found = hashlib.sha256()
        for start, end in self._layout.spans_of(chunk):
            while start < end:
                try:
                    piece = os.pread(self._file.fileno(), min(_PIECE_BYTES, end - start), start)
                except OSError as error:
                    raise DataError(
                        f"{self.path}: {name_of(self._layout, chunk)} cannot be read: {error}"
                    ) from error
                if not piece:
                    break  # it was cut this moment, and the digest will not fit
                found.update(piece)
                start += len(piece)
        if found.digest() != self._digests[chunk]:
            raise IntegrityError(
                f"{self.path}: {name_of(self._layout, chunk)} has digest {found.hexdigest()}, "
                f"its header speaks of {self._digests[chunk].hex()}: write the file anew"
            )
        self._verified[chunk] = True


def _reopened(path: str, cache_bytes: int, digest: str) -> MappedSource:
    source = MappedSource(path, cache_bytes=cache_bytes)
    if source.digest != digest:
        source.close()
        raise IntegrityError(
            f"{path} holds rows {source.digest[:12]} here, and {digest[:12]} where it came from; "
            "have every machine read the same file"
        )
    return source
