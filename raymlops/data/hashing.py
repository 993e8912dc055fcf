"""Digests of files: many at once, and known ones without reading the file again.

A digest is kept with what `stat` said about the file. The kernel sets ctime whenever content or
mtime change, and nobody can set it back, so restoring size and mtime hides nothing. What stat
cannot tell is a change within the same tick of the clock as the one before; as git does with its
index, a file that young when it was hashed is hashed again the next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

from raymlops.errors import DataError

Algorithm = Literal["sha256", "md5"]

# Linux stamps files with the time of the last timer tick, 10 ms apart at the slowest (HZ=100).
# A ctime without any fraction points to a file system that keeps seconds, at worst every second
# one (FAT).
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000

_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path TEXT, algorithm TEXT, device INTEGER, inode INTEGER, size_bytes INTEGER,
    mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT,
    PRIMARY KEY (path, algorithm)
)
"""
_BUSY_TIMEOUT_S = 60

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stamp:
    """What tells two states of a file apart without reading it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        # SQLite's integers are signed; some network file systems use all 64 bits of an inode.
        inode = stat.st_ino - (1 << 64) if stat.st_ino >= 1 << 63 else stat.st_ino
        return cls(stat.st_dev, inode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def is_settled(stamp: Stamp, now_ns: int) -> bool:
    """Whether a change after `now_ns` would have to change the stamp."""
    tick_ns = _TICK_NS if stamp.ctime_ns % 1_000_000_000 else _COARSE_TICK_NS
    return max(stamp.mtime_ns, stamp.ctime_ns) < now_ns - tick_ns


class FileHasher:
    """Hashes files in threads (hashlib lets others run meanwhile); digests are kept in `cache`.

    Without `cache` every file is read every time.
    """

    def __init__(self, cache: Path | None = None, *, num_threads: int | None = None) -> None:
        self._cache = cache
        self._num_threads = num_threads or min(16, os.cpu_count() or 1)

    def digests(self, paths: Sequence[Path], algorithm: Algorithm = "sha256") -> list[str]:
        """The hexadecimal digests of `paths`, in their order.

        Raises:
            DataError: a file cannot be read, or changes while it is read.
        """
        names = [os.path.abspath(path) for path in paths]
        with _opened(self._cache) as database:
            known = _known(database, algorithm) if database else {}
            stale = [name for name in dict.fromkeys(names) if not _is_known(known, name)]
            if stale:
                with ThreadPoolExecutor(min(self._num_threads, len(stale))) as threads:
                    hashed = list(threads.map(lambda name: _hash(name, algorithm), stale))
                if database:
                    _keep(database, algorithm, zip(stale, hashed, strict=True))
                known |= {
                    name: (stamp, digest)
                    for name, (stamp, digest, _) in zip(stale, hashed, strict=True)
                }
        return [known[name][1] for name in names]


def _is_known(known: dict[str, tuple[Stamp, str]], name: str) -> bool:
    return name in known and known[name][0] == Stamp.of(_stat(name))


def _stat(name: str) -> os.stat_result:
    try:
        return os.stat(name)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from error


def _hash(name: str, algorithm: Algorithm) -> tuple[Stamp, str, bool]:
    """The file's stamp and digest, and whether the digest may be kept."""
    now_ns = time.time_ns()
    try:
        with open(name, "rb") as file:
            before = Stamp.of(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, algorithm).hexdigest()
            after = Stamp.of(os.fstat(file.fileno()))
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from error
    if before != after:
        raise DataError(f"{name} changes while it is read; add it when its writer is done")
    return before, digest, is_settled(before, now_ns)


@contextlib.contextmanager
def _opened(cache: Path | None) -> Iterator[sqlite3.Connection | None]:
    if cache is None:
        yield None
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(_connect(cache)) as database:
        yield database


def _connect(cache: Path) -> sqlite3.Connection:
    database = sqlite3.connect(cache, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        database.execute(_TABLE)
    except sqlite3.DatabaseError as error:
        database.close()
        if isinstance(error, sqlite3.OperationalError):
            raise DataError(f"the cache of digests {cache} cannot be used: {error}") from error
        _logger.warning("the cache of digests %s is broken (%s) and made anew", cache, error)
        cache.unlink()
        return _connect(cache)
    return database


def _known(database: sqlite3.Connection, algorithm: Algorithm) -> dict[str, tuple[Stamp, str]]:
    rows = database.execute("SELECT * FROM digests WHERE algorithm = ?", (algorithm,))
    return {path: (Stamp(*stamp), digest) for path, _, *stamp, digest in rows}


def _keep(
    database: sqlite3.Connection,
    algorithm: Algorithm,
    hashed: Iterator[tuple[str, tuple[Stamp, str, bool]]],
) -> None:
    rows = [
        (name, algorithm, *astuple(stamp), digest)
        for name, (stamp, digest, settled) in hashed
        if settled
    ]
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.execute("COMMIT")
