"""Files of writers that have ended: each life of a replica has some of its own, and none cleans up.

A writer that lives holds a lock on its file, which ends with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

_NAME = re.compile(r"(.+\.jsonl)(?:\.\d+)?")


def hold(descriptor: int) -> None:
    """Says that the writer of this file lives, for as long as the descriptor is open."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def remove_ended(folder: Path, family: str, *, keep: int) -> None:
    """Removes all but the newest `keep` of the files that ended writers of `family` have left, of
    lives that are called FAMILY-12 hexadecimal digits. Nobody else writes in that folder meanwhile.

    Raises:
        OSError: one cannot be removed, or seen.
    """
    life = re.compile(rf"{re.escape(family)}-[0-9a-f]{{12}}\.jsonl")
    lives: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if (named := _NAME.fullmatch(path.name)) and life.fullmatch(named[1]):
            lives.setdefault(named[1], []).append(path)
    ended = [path for name, files in lives.items() if not _is_held(folder / name) for path in files]
    ended.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in ended[keep:]:
        path.unlink()


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
