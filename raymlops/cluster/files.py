"""Small files: replaced whole, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def replace_text(path: Path, text: str) -> None:
    """Make `text` the content of `path`; a reader sees the old or the new, never a part, also
    after a power cut.

    Raises:
        OSError: the disk is full, or `path`, which it names, not to be written; then nothing is
            left there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else the name may be on the disk and its content not
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):  # on a disk that has become read-only, also where there is none
            draft.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def tail(path: Path) -> str:
    """The last lines of a log, or a note that there is none."""
    try:
        return last_lines(path.read_text(errors="replace"))
    except FileNotFoundError:
        return f"(no log at {path})"


def last_lines(text: str, *, num_lines: int = 15) -> str:
    """The end of `text`, as much as an error message can hold."""
    return "\n".join(text.splitlines()[-num_lines:])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for, then hold, the lock file `path`; it is freed when the holder dies."""
    with _lock_file(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(path: Path) -> IO[str]:
    """To be written, which NFS asks of who locks it; but where the disk has become read-only."""
    try:
        return path.open("w")
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return path.open()
