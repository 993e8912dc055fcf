"""Early drift detection method: errors follow one another more closely than they ever did."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raymlops.monitor.detectors.base import Detector, Values


@dataclass
class _Memory:
    num: int = 0
    num_errors: int = 0
    last_error: int = 0
    mean_distance: float = 0.0
    squares: float = 0.0
    largest: float = -1.0


class Eddm(Detector[_Memory]):
    """With d the mean distance between two errors in labels and s its deviation, it alarms when

        (d + 2 s) / max(d + 2 s) < ratio

    M. Baena-García et al. (2006), Early drift detection method. Made for slow changes; on abrupt
    ones it alarms often without a cause.
    """

    kind = "eddm"
    bounds = (0.0, 1.0)

    def __init__(self, *, warm_up: int = 30, ratio: float = 0.9) -> None:
        if warm_up < 1 or not 0 < ratio < 1:
            raise ValueError(
                f"warm_up is {warm_up} and ratio {ratio}; give a positive number and one in (0, 1)"
            )
        self._warm_up = warm_up
        self._ratio = ratio
        super().__init__()

    def _fresh(self) -> _Memory:
        return _Memory()

    def _advance(self, values: Values) -> int | None:
        memory, before = self._memory, self._memory.num
        for index in (values == 1.0).nonzero()[0].tolist():
            memory.num = before + index + 1
            if self._error(memory):
                return int(index)
        memory.num = before + len(values)
        return None

    def _error(self, memory: _Memory) -> bool:
        """Takes the error at label `memory.num`; whether it came too early."""
        distance = memory.num - memory.last_error
        memory.last_error = memory.num
        memory.num_errors += 1
        gap = distance - memory.mean_distance
        memory.mean_distance += gap / memory.num_errors
        memory.squares += gap * (distance - memory.mean_distance)
        if memory.num <= self._warm_up:
            return False
        variance = memory.squares / max(1, memory.num_errors - 1)
        spread = memory.mean_distance + 2.0 * math.sqrt(variance)
        if spread > memory.largest:
            memory.largest = spread
            return False
        return memory.num_errors > self._warm_up and spread < self._ratio * memory.largest
