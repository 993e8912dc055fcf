"""Page-Hinkley: errors have lain above their own mean for long enough."""

from __future__ import annotations

from dataclasses import dataclass

from raymlops.monitor.detectors.base import Detector, Values


@dataclass
class _Memory:
    num: int = 0
    mean: float = 0.0
    level: float = 0.0
    lowest: float | None = None


class PageHinkley(Detector[_Memory]):
    """With m_t the mean of x_1 .. x_t, it follows

        S_t = forgetting · S_t-1 + x_t - m_t - tolerance

    and alarms when S_t - min S > threshold, after `warm_up` labels.

    E. S. Page (1954), Continuous inspection schemes; D. V. Hinkley (1971), Inference about the
    change-point from cumulative sum tests. Takes any number as an error, a loss for one; threshold
    and tolerance are in its unit.
    """

    kind = "page_hinkley"

    def __init__(
        self,
        *,
        warm_up: int = 30,
        tolerance: float = 0.005,
        threshold: float = 50.0,
        forgetting: float = 0.9999,
    ) -> None:
        if warm_up < 1 or threshold <= 0 or not 0 < forgetting <= 1:
            raise ValueError(
                f"warm_up is {warm_up}, threshold {threshold} and forgetting {forgetting}; the "
                "first two are positive, the last is in (0, 1]"
            )
        self._warm_up = warm_up
        self._tolerance = tolerance
        self._threshold = threshold
        self._forgetting = forgetting
        super().__init__()

    def _fresh(self) -> _Memory:
        return _Memory()

    def _advance(self, values: Values) -> int | None:
        memory = self._memory
        num, mean, level, lowest = memory.num, memory.mean, memory.level, memory.lowest
        found = None
        for index, value in enumerate(values.tolist()):
            num += 1
            mean += (value - mean) / num
            level = self._forgetting * level + (value - mean) - self._tolerance
            if lowest is None or level < lowest:
                lowest = level
            if num >= self._warm_up and level - lowest > self._threshold:
                found = index
                break
        memory.num, memory.mean, memory.level, memory.lowest = num, mean, level, lowest
        return found
