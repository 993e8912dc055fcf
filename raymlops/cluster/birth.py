"""When a process began, told so that later ones of its pid differ and a set clock changes nothing.

The dates that psutil tells are counted from the boot, whose date moves by the whole step when the
clock is set. The kernel keeps ticks since the boot, and a name of its own for each boot.
"""

from __future__ import annotations

from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Field 22 of /proc/PID/stat, where the third is the first one after the process's name.
_STARTTIME = 22 - 3


def boot_id() -> str | None:
    """The kernel's name for the time since this machine started; None where it gives none."""
    try:
        return _BOOT_ID.read_text().strip()
    except FileNotFoundError:
        return None


def start_of(pid: int) -> float:
    """When `pid` began: in ticks since the boot where that has an id, else in Unix seconds.

    Raises:
        psutil.NoSuchProcess: It has ended, and nobody waits for its exit status.
    """
    if not _BOOT_ID.exists():
        return psutil.Process(pid).create_time()
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    _, _, fields = stat.rpartition(b") ")
    return int(fields.split()[_STARTTIME])
