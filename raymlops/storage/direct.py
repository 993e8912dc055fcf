"""Writes from memory to disk past the page cache, where the file system allows it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
from pathlib import Path

_DIRECT = getattr(os, "O_DIRECT", 0)
# One call writes no more: Linux takes 2 GiB at most, and a signal can come between.
_PIECE_BYTES = 64 << 20

_logger = logging.getLogger(__name__)


def paged_memory(size_bytes: int) -> mmap.mmap:
    """Memory for so many bytes in whole pages, at least one.

    Pages are large ones where the system has them (Linux: transparent huge pages): a disk is told
    of each, and takes twice as long where they have 4 KiB.
    """
    num_pages = max(1, -(-size_bytes // mmap.PAGESIZE))
    memory = mmap.mmap(-1, num_pages * mmap.PAGESIZE, access=mmap.ACCESS_COPY)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel that was built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def write_direct(path: Path, memory: mmap.mmap, size_bytes: int) -> None:
    """Makes the first `size_bytes` of `memory` the content of `path`, durably.

    `memory` has whole pages, see `paged_memory`. A disk that can read them itself spares the
    processor the copy, and the page cache what would push others out.
    """
    file = _opened(path)
    try:
        _write(file, memory)
        os.ftruncate(file, size_bytes)
        os.fsync(file)
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | _DIRECT, 0o644)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _logger.info("%s is written through the page cache: its file system has no other way", path)
        return os.open(path, flags, 0o644)


def _write(file: int, memory: mmap.mmap) -> None:
    with memoryview(memory) as whole:
        written = 0
        while written < len(whole):
            with whole[written : written + _PIECE_BYTES] as piece:
                try:
                    written += os.pwrite(file, piece, written)
                except OSError as error:
                    if error.errno != errno.EINVAL or not _is_direct(file):
                        raise
                    _through_the_cache(file)


def _is_direct(file: int) -> bool:
    return bool(fcntl.fcntl(file, fcntl.F_GETFL) & _DIRECT)


def _through_the_cache(file: int) -> None:
    """The disk wants larger pages than ours, or a short write ended within one."""
    _logger.info("the rest of a file is written through the page cache: the disk refused a page")
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~_DIRECT)
