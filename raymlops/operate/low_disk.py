"""Whether the disk of a home will take what it is told, as a signal for alerts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from raymlops.errors import TAKES_NOTHING
from raymlops.ledger.read_only import is_full
from raymlops.monitor.alerts import Signal
from raymlops.monitor.alerts.signals import DISK

# Whichever is less: 3 % of a large disk last for months.
_LOW_SHARE = 0.03
_LOW_BYTES = 2 << 30
_CALM = 1.25  # what is free once more, over what was too little: a disk does not waver around that
_WAY_OUT = "`raymlops ledger forget-predictions` makes room in the ledger"


class Room(NamedTuple):
    """Bytes of a disk, and those of them that are free to this process; whether it is `full`, and
    why it takes no new file, though it is not: it is read-only, or has no inodes left."""

    total: int
    free: int
    full: bool
    refusal: str | None = None


def room_of(home: Path) -> Room:
    usage = shutil.disk_usage(home)
    full = is_full(str(home))
    return Room(usage.total, usage.free, full, None if full else _refusal(home))


def refusal_of(room: Room) -> str | None:
    """What is said of a disk that takes nothing; None of one that does."""
    if room.full:
        return "is full"
    if room.refusal is None:
        return None
    free = f"{room.free >> 20:,} MiB"
    return f"takes no new file, though {free} are free: {room.refusal}; see `mount` and `df -i`"


def _refusal(home: Path) -> str | None:
    """By asking for a file that has no name: of the flags of a disk not all kernels tell that it
    has become read-only, and of its inodes not all disks."""
    try:
        os.close(os.open(home, os.O_TMPFILE | os.O_WRONLY))
    except OSError as error:  # of another number it may have no such files, as NFS
        return error.strerror if error.errno in TAKES_NOTHING else None
    return None


class LowDisk:
    """What became of the disk of `home` since the last look."""

    def __init__(self, home: Path, room: Callable[[Path], Room] = room_of) -> None:
        self._home = home
        self._room = room
        self._was_low = False

    def look(self) -> tuple[Signal, ...]:
        room = self._room(self._home)
        limit = min(_LOW_SHARE * room.total, _LOW_BYTES) * (_CALM if self._was_low else 1.0)
        refusal = refusal_of(room)
        self._was_low = refusal is not None or room.free < limit
        said = refusal or f"has {room.free >> 20:,} MiB left; {_WAY_OUT}"
        lost = ": no decision and no label is taken" if room.full else ""
        return (
            Signal(
                name=DISK,
                model=f"home {self._home}",
                firing=self._was_low,
                severity="warning" if refusal is None else "critical",
                summary=f"the disk of {self._home} {said}{lost}",
                evidence={"total_bytes": room.total, "free_bytes": room.free},
            ),
        )
