"""Linux' inotify: which files of a folder were renamed into place or removed."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
from collections.abc import Iterator
from pathlib import Path

from raymlops.coordination.deadline import Deadline
from raymlops.errors import CoordinationError

_IN_MOVED_TO, _IN_DELETE = 0x80, 0x200  # <sys/inotify.h>
_libc = ctypes.CDLL(None, use_errno=True)


class FolderChanges:
    """Tells that something changed; what, the folder itself says."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)

    def wait(self, deadline: Deadline) -> None:
        """Returns after a change that no earlier call reported; TimeoutError at the deadline."""
        left_s = deadline.left_s
        if not self._poll.poll(None if left_s is None else math.ceil(left_s * 1000)):
            raise TimeoutError(f"nothing changed within {deadline.timeout_s:g} s")
        os.read(self._file, 65536)


@contextlib.contextmanager
def changes_in(folder: Path) -> Iterator[FolderChanges]:
    """Changes of `folder` from now on.

    Raises:
        CoordinationError: the user has no watches left.
    """
    file = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), folder)
    try:
        _checked(
            _libc.inotify_add_watch(file, os.fsencode(folder), _IN_MOVED_TO | _IN_DELETE), folder
        )
        yield FolderChanges(file)
    finally:
        os.close(file)


def _checked(result: int, folder: Path) -> int:
    if result < 0:
        reason = os.strerror(ctypes.get_errno())
        raise CoordinationError(
            f"{folder} cannot be watched: {reason}; "
            "see fs.inotify.max_user_instances and max_user_watches of sysctl"
        )
    return result
