"""Kolmogorov-Smirnov windowing: the newest errors are distributed unlike older ones."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np

from raymlops.monitor.detectors.base import Detector, Values

_MIN_DISTANCE = 0.1


@dataclass
class _Memory:
    words: list[int]
    window: list[float] = field(default_factory=list)


class Kswin(Detector[_Memory]):
    """Keeps the last `window_size` errors, and at each new one holds the newest `sample_size` of
    them against as many drawn from the others. It alarms when their two-sample test has a
    p-value of at most `alpha` and their distribution functions differ by more than 0.1.

    C. Raab, M. Heusinger, F.-M. Schleif (2020), Reactive soft prototype computing for concept
    drift streams. Meant for errors that are real numbers: of 0 and 1 the test sees little. It
    tests at every label, so it alarms without a cause about once in 1 / alpha independent windows.
    """

    kind = "kswin"

    def __init__(
        self,
        *,
        alpha: float = 0.005,
        window_size: int = 100,
        sample_size: int = 30,
        seed: int = 0,
    ) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}, not between 0 and 1")
        if not 1 <= sample_size <= window_size // 2:
            raise ValueError(
                f"sample_size is {sample_size}; it must lie between 1 and half of window_size, "
                f"which is {window_size}"
            )
        self._window_size = window_size
        self._sample_size = sample_size
        self._seed = seed
        least = critical_distance(sample_size, alpha)
        self._least = max(least, math.floor(_MIN_DISTANCE * sample_size) + 1)
        super().__init__()

    def _fresh(self) -> _Memory:
        return _Memory(words=list(random.Random(self._seed).getstate()[1]))

    def _advance(self, values: Values) -> int | None:
        generator = random.Random()
        generator.setstate((3, tuple(self._memory.words), None))
        window, old = self._memory.window, self._window_size - self._sample_size
        found = None
        for index, value in enumerate(values.tolist()):
            window.append(value)
            if len(window) < self._window_size:
                continue
            drawn = [window[i] for i in generator.sample(range(old), self._sample_size)]
            if largest_gap(drawn, window[old:]) >= self._least:
                found = index
                break
            del window[0]
        self._memory.words = list(generator.getstate()[1])
        return found


def largest_gap(first: list[float], second: list[float]) -> int:
    """The largest difference of two samples' distribution functions, in units of 1 / size."""
    left, right, both = np.sort(first), np.sort(second), np.concatenate([first, second])
    gaps = np.searchsorted(left, both, "right") - np.searchsorted(right, both, "right")
    return int(np.abs(gaps).max())


def critical_distance(size: int, alpha: float) -> int:
    """The smallest gap of two samples of `size` whose exact two-sided p-value is at most `alpha`.

    B. V. Gnedenko, V. S. Korolyuk (1951), On the maximum discrepancy between two empirical
    distributions: P(D >= h / n) = 2 Σ_k (-1)^(k+1) C(2n, n - k h) / C(2n, n).
    """
    for gap in range(1, size + 1):
        terms = (
            (-1) ** (k + 1) * math.comb(2 * size, size - k * gap) for k in range(1, size // gap + 1)
        )
        if 2 * sum(terms) <= alpha * math.comb(2 * size, size):
            return gap
    return size + 1
