"""Files that mean something while this process keeps them open, and only this process.

A child made by fork would keep its copies open and so hold what its dead parent held. Here it
closes them at once; programs that it starts never see them (O_CLOEXEC).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

_open_files: set[int] = set()
_no_fork = threading.Lock()


def open_private(path: Path, flags: int) -> int:
    """A file descriptor of `path`; created, where `flags` say so, for its owner alone."""
    with _no_fork:
        file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        _open_files.add(file)
    return file


def close_private(file: int) -> None:
    with _no_fork:
        if file in _open_files:  # else this is a forked child, which has none of them
            _open_files.remove(file)
            os.close(file)


def _close_in_child() -> None:
    for file in _open_files:
        os.close(file)
    _open_files.clear()
    _no_fork.release()


os.register_at_fork(
    before=_no_fork.acquire,
    after_in_parent=_no_fork.release,
    after_in_child=_close_in_child,
)
