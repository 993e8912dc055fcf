"""Peak memory of this process and everything it started."""

from __future__ import annotations

import os
import threading

import psutil

_INTERVAL_S = 1.0


class PeakMemory:
    """Samples the process tree in the background while the block runs.

    Shared pages count once: proportional set sizes are added up, as the kernel gives them.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        root = psutil.Process(os.getpid())
        while not self._ended.wait(_INTERVAL_S):
            tree = [root, *root.children(recursive=True)]
            self.peak_bytes = max(self.peak_bytes, sum(_size_bytes(process) for process in tree))


def _size_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
        return int(getattr(memory, "pss", memory.uss))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0  # it ended between being listed and being asked
