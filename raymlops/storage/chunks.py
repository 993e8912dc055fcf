"""Bytes on their way in bounded memory: pieces of files, read ahead and hashed beside the move."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from raymlops.errors import IntegrityError
from raymlops.storage.base import CHUNK_BYTES, ReadRange

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Of local files: it stays in the cache of a core, and 4 MiB at once take twice the time.
_PIECE_BYTES = 256 << 10
_RANGES_AHEAD = 4
# Below this a thread costs more than it saves.
_WORTH_A_THREAD_BYTES = 128 << 10
_UNHASHED_CHUNKS = 4


def file_chunks(path: Path, start: int = 0) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while chunk := file.read(_PIECE_BYTES):
            yield chunk


def bytes_chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def ranges_ahead(read: ReadRange, *, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end` in order, some ranges being read at once."""
    if end - start <= CHUNK_BYTES:
        if end > start:
            yield read(end - start, start)
        return
    with ThreadPoolExecutor(_RANGES_AHEAD, thread_name_prefix="read-ahead") as pool:
        reads: deque[Future[bytes]] = deque()
        try:
            for offset in range(start, end, CHUNK_BYTES):
                reads.append(pool.submit(read, min(CHUNK_BYTES, end - offset), offset))
                if len(reads) == _RANGES_AHEAD:
                    yield reads.popleft().result()
            while reads:
                yield reads.popleft().result()
        finally:
            for unwanted in reads:
                unwanted.cancel()


def verified(chunks: Iterator[bytes], digest: str, *, where: str) -> Generator[bytes, None, None]:
    """The same chunks, hashed in a thread while others are read and written.

    The last one is held back until the digest is known to be right: who has all bytes has the
    right ones.

    Raises:
        IntegrityError: the bytes are not those of `digest`.
    """
    found = hashlib.sha256()
    held: bytes | None = None
    with Beside() as beside:
        for chunk in chunks:
            if held is not None:
                yield held
            beside.run(found, chunk)
            held = chunk
    if found.hexdigest() != digest:
        raise IntegrityError(
            f"blob {digest} in {where} now has digest {found.hexdigest()}; refused"
        )
    if held is not None:
        yield held


class Beside:
    """Hashes chunks one after the other, large ones in a thread of its own."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()

    def run(self, hasher: hashlib._Hash, chunk: bytes) -> None:
        """Waits where too many chunks are not hashed yet."""
        if len(chunk) < _WORTH_A_THREAD_BYTES:
            self._wait_until_left(0)
            hasher.update(chunk)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._wait_until_left(_UNHASHED_CHUNKS - 1)
        self._running.append(self._pool.submit(hasher.update, chunk))

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait_until_left(0)
        if self._pool is not None:
            self._pool.shutdown()

    def _wait_until_left(self, count: int) -> None:
        while len(self._running) > count:
            self._running.popleft().result()


class ChunkStream(io.RawIOBase):
    """Chunks as a readable binary stream; cannot seek.

    With `to_the_end`, closing it early still reads the rest, so that what a caller took is
    verified too; leaving its block by an exception does not.
    """

    def __init__(self, chunks: Generator[bytes, None, None], *, to_the_end: bool = False) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._to_the_end = to_the_end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(into), len(self._rest))
        into[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def readall(self) -> bytes:
        rest, self._rest = self._rest, memoryview(b"")
        return b"".join([rest, *self._chunks])

    def close(self) -> None:
        if not self.closed:
            try:
                if self._to_the_end:
                    deque(self._chunks, maxlen=0)
            finally:
                self._abandon()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon()

    def __del__(self) -> None:
        self._abandon()

    def _abandon(self) -> None:
        self._chunks.close()
        super().close()
