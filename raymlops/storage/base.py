"""What every kind of storage offers: whole files below a root, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

# What moves at once. Large enough that a request's latency is small beside it, small enough that
# a few of them in flight are nothing beside a model.
CHUNK_BYTES = 4 << 20


class Backend(Protocol):
    """Files by checked name. Every method may be called from several threads.

    Raises, from every method:
        UnavailableError: it may pass by itself; calling again is safe.
        StorageError: it will not; says what to do.
    """

    def size_bytes(self, name: str) -> int | None:
        """None where there is no such file."""
        ...

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on, in pieces, in bounded memory.

        Raises:
            MissingFileError: there is no such file.
        """
        ...

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Makes the chunks, once they have ended, the whole content of the file.

        Until then, and for ever if `chunks` raises or this process dies, readers see what was
        there before.
        """
        ...

    def names(self, folder: str) -> Iterator[str]:
        """Every complete file at any depth below `folder` ('' is the root), in no order."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Makes `target`, at once, a file of the same bytes.

        Raises:
            MissingFileError: there is no file `source`.
        """
        ...

    def delete(self, name: str) -> None:
        """Removes the file; none there is well too."""
        ...


ReadRange = Callable[[int, int], bytes]
"""From a length and an offset to bytes."""
