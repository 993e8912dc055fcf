"""How much memory this process has, and may still have."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(cgroup: Path = _CGROUP) -> int:
    """What can be allocated: the machine's, or the container's where that allows less."""
    free = int(psutil.virtual_memory().available)
    limit, used = _read(cgroup / "memory.max"), _read(cgroup / "memory.current")
    if limit is not None and used is not None:
        # The page cache counts as used, and is given back when it is needed.
        free = min(free, max(0, limit - used + _cache_bytes(cgroup / "memory.stat")))
    return free


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def _read(path: Path) -> int | None:
    """The number in a file of the kernel; None when there is no such file, or no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cache_bytes(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
