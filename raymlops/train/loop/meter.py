"""What a step took, and where the time went."""

from __future__ import annotations

import contextlib
import math
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from raymlops.train.devices import Device

Item = TypeVar("Item")

# Linux takes 0.15 ms to tell, of steps that may have ten.
_MEMORY_EVERY_S = 0.5


class Meter:
    """Measures the steps of one worker.

        with meter.spent("data"): ...
        with meter.spent("compute"): ...
        values = meter.finish(num_rows)

    `device` is torch's; without one nothing is told of its memory. `flops_per_row` is what the
    whole model costs a row, forward and backward, and `peak_flops_per_s` what all workers together
    could do at best. A device that computes behind the host's back is waited for at the end of
    "compute", where the loss is read, and not of "update": what an optimizer takes there counts to
    the compute of the next step.
    """

    def __init__(
        self,
        device: Device | None = None,
        flops_per_row: float | None = None,
        peak: float = 0.0,
    ) -> None:
        self._device = device
        self._flops_per_row = flops_per_row
        self._peak_flops_per_s = peak
        self._parts: dict[str, float] = {}
        self._memory_bytes = 0
        self._memory_due = -math.inf
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def spent(self, part: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._parts[part] = self._parts.get(part, 0.0) + time.perf_counter() - before

    def drawn(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """The items; what each is waited for is spent on `part`."""
        while True:
            with self.spent(part):
                item = next(items, None)
            if item is None:
                return
            yield item

    def move(self, seconds: float, source: str, target: str) -> None:
        """Counts so much of what was spent on `source`, if it was as much, to `target`."""
        seconds = min(seconds, self._parts.get(source, 0.0))
        if seconds:
            self._parts[source] -= seconds
            self._parts[target] = self._parts.get(target, 0.0) + seconds

    def finish(self, num_rows: int) -> dict[str, float]:
        """The figures of the step of `num_rows` rows of all workers; the next step starts here."""
        now = time.perf_counter()
        step_s = now - self._started
        if now >= self._memory_due:
            self._memory_bytes = host_memory_bytes()
            self._memory_due = now + _MEMORY_EVERY_S
        values = {
            "step_s": step_s,
            "rows_per_s": num_rows / step_s,
            **{f"{part}_s": spent_s for part, spent_s in self._parts.items()},
            "memory_mb": self._memory_bytes / 2**20,
        }
        if self._device is not None and (held := self._device.own_memory_bytes()) is not None:
            values["device_memory_mb"] = held / 2**20
        if self._flops_per_row is not None:
            values["mfu"] = self._flops_per_row * num_rows / step_s / self._peak_flops_per_s
        self._parts, self._started = {}, now
        return values

    def restart(self) -> None:
        """The next step starts now; what was between belongs to none."""
        self._parts, self._started = {}, time.perf_counter()


def host_memory_bytes() -> int:
    """The most memory of the host that this process has held so far."""
    if sys.platform == "linux":
        # What getrusage tells includes the process that started this one.
        told = re.search(rb"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_bytes())
        if told is not None:
            return int(told[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
