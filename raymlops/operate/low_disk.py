"""Whether the disk of a home has room for what it will be told, as a signal for alerts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from raymlops.ledger.read_only import is_full
from raymlops.monitor.alerts import Signal
from raymlops.monitor.alerts.signals import DISK

# Whichever is less: 3 % of a large disk last for months.
_LOW_SHARE = 0.03
_LOW_BYTES = 2 << 30
_CALM = 1.25  # what is free once more, over what was too little: a disk does not waver around that


class Room(NamedTuple):
    """Bytes of a disk, and those of them that are free to this process; whether it is `full`."""

    total: int
    free: int
    full: bool


def room_of(home: Path) -> Room:
    usage = shutil.disk_usage(home)
    return Room(usage.total, usage.free, is_full(str(home)))


class LowDisk:
    """What became of the disk of `home` since the last look."""

    def __init__(self, home: Path, room: Callable[[Path], Room] = room_of) -> None:
        self._home = home
        self._room = room
        self._was_low = False

    def look(self) -> tuple[Signal, ...]:
        room = self._room(self._home)
        limit = min(_LOW_SHARE * room.total, _LOW_BYTES) * (_CALM if self._was_low else 1.0)
        self._was_low = room.full or room.free < limit
        if room.full:
            summary = f"the disk of {self._home} is full: no decision and no label is taken"
        else:
            summary = f"the disk of {self._home} has {room.free >> 20:,} MiB left"
        return (
            Signal(
                name=DISK,
                model=f"home {self._home}",
                firing=self._was_low,
                severity="critical" if room.full else "warning",
                summary=summary,
                evidence={"total_bytes": room.total, "free_bytes": room.free},
            ),
        )
