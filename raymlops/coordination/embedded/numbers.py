"""Numbers that rise for ever, drawn by many processes, across crashes of the machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from raymlops.coordination.embedded.disk import make_folder, sync_folder
from raymlops.coordination.embedded.private_files import close_private, open_private

# Numbers secured by one write to the disk: after a crash at most so many are skipped.
_RESERVE = 1024


class Numbers:
    """Numbers from 1, kept in the file `path`, which is also the mutex for drawing them.

    The file holds the latest number, the largest one that may have been drawn, and the boot during
    which it was written. The page cache keeps the first through the death of any process; only a
    crash of the machine can lose it, and then the next boot goes on above the second, which was
    synced before it was used. So a number costs a sync only once in a thousand.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def next(self) -> Iterator[int]:
        """The next number; nobody else draws one during the block, which must be short."""
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _draw(file)
        finally:
            close_private(file)

    def _open(self) -> int:
        try:
            return open_private(self._path, os.O_RDWR)
        except FileNotFoundError:
            make_folder(self._path.parent)
            file = open_private(self._path, os.O_RDWR | os.O_CREAT)
            sync_folder(self._path.parent)
            return file


def _draw(file: int) -> int:
    latest, reserved, boot = _read(file)
    number = (latest if boot == _boot() else reserved) + 1
    exhausted = number > reserved
    if exhausted:
        reserved = number + _RESERVE - 1
    os.pwrite(file, f"{number:020d} {reserved:020d} {_boot():36}\n".encode(), 0)
    if exhausted:
        os.fsync(file)
    return number


def _read(file: int) -> tuple[int, int, str]:
    fields = os.pread(file, 128, 0).decode().split()
    return (int(fields[0]), int(fields[1]), fields[2]) if fields else (0, 0, "")


@cache
def _boot() -> str:
    """The kernel's name for the time since this machine started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
