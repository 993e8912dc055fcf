"""Blobs kept on this node, so that what it loaded once can be loaded while their store is away."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from raymlops.storage.local import replace
from raymlops.storage.names import checked_digest
from raymlops.storage.store import Store

_logger = logging.getLogger(__name__)

# Nobody writes a file of his own disk for so long: its writer was killed.
_LEFT_BEHIND_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Blobs in `folder`, of a size of `max_bytes` together; those that were read or renewed longest
    ago go first.

    Processes share the folder, and each may be killed at any moment: a copy appears whole, and is
    held against its digest as it is read. Several that write at once may pass the bound by what
    each of them writes, until the next one does. Nothing fails for want of a copy: a disk that
    takes none is warned of.
    """

    folder: Path
    max_bytes: int

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes {self.max_bytes} must be 1 or more")

    def get(self, digest: str) -> bytes | None:
        """The blob, if there is a copy of it; one that is damaged is removed."""
        path = self.folder / checked_digest(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _logger.warning("the copy %s cannot be read: %s", path, error)
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            _logger.warning("the copy %s is damaged, and is removed", path)
            with self._warned("removed"):
                path.unlink(missing_ok=True)
            return None
        self.renew((digest,))
        return data

    def renew(self, digests: Iterable[str]) -> None:
        """Has those of the blobs that there are copies of go after all others, as if just read."""
        for digest in digests:
            with contextlib.suppress(OSError):  # a disk that is read-only evicts nothing either
                os.utime(self.folder / checked_digest(digest))

    def put(self, digest: str, data: bytes) -> None:
        """Keeps the blob, if it is no larger than all copies may be."""
        if len(data) > self.max_bytes:
            _logger.warning(
                "no copy of blob %s is kept: it has %.0f MiB, and storage.copies_mb allows %.0f",
                digest,
                len(data) / 2**20,
                self.max_bytes / 2**20,
            )
            return
        with self._warned("kept"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(data))
            path = self.folder / checked_digest(digest)
            replace(path, (data,), staging=self.folder, durable=False, private=True)

    def sizes_bytes(self) -> tuple[int, ...]:
        """Of every copy there is."""
        return tuple(status.st_size for _, status in self._found())

    def _make_room(self, size_bytes: int) -> None:
        """For a blob of that size."""
        left_behind = time.time() - _LEFT_BEHIND_S
        copies = []
        total = size_bytes
        for path, status in self._found():
            if not path.name.startswith("."):
                copies.append((status.st_mtime_ns, status.st_size, path))
            elif status.st_mtime < left_behind:
                path.unlink(missing_ok=True)
                continue
            total += status.st_size
        for _, size, path in sorted(copies):
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _found(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Copies, and what is just being written, whose names begin with a dot."""
        try:
            entries = list(os.scandir(self.folder))
        except FileNotFoundError:
            return
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                yield Path(entry.path), entry.stat(follow_symlinks=False)

    @contextlib.contextmanager
    def _warned(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _logger.warning("no copy is %s in %s: %s", done, self.folder, error)


class CopyingStore(Store):
    """A store whose blobs `get` keeps as `copies`, and looks for there first.

    So a version that this node has loaded is loaded again without the store. What verifies or
    streams blobs reads those of the store itself.
    """

    def __init__(self, uri: str, copies: Copies) -> None:
        super().__init__(uri)
        self._copies = copies

    def get(self, digest: str) -> bytes:
        """As `Store.get`, of which it raises nothing where there is a copy."""
        if (copied := self._copies.get(digest)) is not None:
            return copied
        data = super().get(digest)
        self._copies.put(digest, data)
        return data

    def renew_tree(self, digest: str) -> None:
        """Has this node keep its copies of a tree that is in use, whatever is read beside it; reads
        nothing of the store."""
        if (listing := self._copies.get(digest)) is not None:
            self._copies.renew(orjson.loads(listing).values())
