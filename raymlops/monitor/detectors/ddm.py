"""Drift detection method: the error rate has risen above the lowest it ever was."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raymlops.monitor.detectors.base import Detector, Values


@dataclass
class _Memory:
    num: int = 0
    rate: float = 0.0
    lowest_rate: float | None = None
    lowest_deviation: float = 0.0


class Ddm(Detector[_Memory]):
    """With p the share of errors so far and s = sqrt(p (1 - p) / n), it alarms when

        p + s > p_min + threshold · s_min

    where p_min and s_min are those at which p + s was smallest, after `warm_up` labels.

    J. Gama, P. Medas, G. Castillo, P. Rodrigues (2004), Learning with drift detection. It looks
    at every label with the same threshold, so sooner or later it alarms without a cause: here
    after some thousand labels.
    """

    kind = "ddm"
    bounds = (0.0, 1.0)

    def __init__(self, *, warm_up: int = 30, threshold: float = 3.0) -> None:
        if warm_up < 1 or threshold <= 0:
            raise ValueError(f"warm_up is {warm_up} and threshold {threshold}; both are positive")
        self._warm_up = warm_up
        self._threshold = threshold
        super().__init__()

    def _fresh(self) -> _Memory:
        return _Memory()

    def _advance(self, values: Values) -> int | None:
        memory = self._memory
        for index, value in enumerate(values.tolist()):
            memory.num += 1
            memory.rate += (value - memory.rate) / memory.num
            if memory.num > self._warm_up and self._has_risen(memory):
                return index
        return None

    def _has_risen(self, memory: _Memory) -> bool:
        rate = memory.rate
        deviation = math.sqrt(max(0.0, rate * (1.0 - rate) / memory.num))
        lowest = memory.lowest_rate
        if lowest is None or rate + deviation <= lowest + memory.lowest_deviation:
            memory.lowest_rate, memory.lowest_deviation = lowest, _ = rate, deviation
        return rate + deviation > lowest + self._threshold * memory.lowest_deviation
