"""Adaptive windowing: the window of past errors has two parts with different means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from raymlops.monitor.detectors.base import Detector, Values


@dataclass
class _Memory:
    """`rows[i]` are [sum, variance] of buckets of 2^i errors each, the oldest first."""

    num: int = 0
    total: float = 0.0
    variance: float = 0.0
    rows: list[list[list[float]]] = field(default_factory=lambda: [[]])


class Adwin(Detector[_Memory]):
    """Looks, at every `clock`-th error, for a cut of all errors so far into an older part of n_0
    and a newer of n_1, whose means differ by more than chance lets them:

        |mean_0 - mean_1| > sqrt(2/m · v · ln(2 ln n / δ)) + 2/(3 m) · ln(2 ln n / δ)
        1/m = 1/(n_0 - k + 1) + 1/(n_1 - k + 1)

    with v the variance of all and k the least length of a part. Errors are kept in an exponential
    histogram of at most `max_buckets` buckets a size, so memory grows with the logarithm of n.

    A. Bifet, R. Gavaldà (2007), Learning from time-changing data with adaptive windowing, ADWIN2.
    Assumes nothing of what the errors were before, and pays for it with time. A falling error
    is a change, too.
    """

    kind = "adwin"

    def __init__(
        self,
        *,
        delta: float = 0.002,
        clock: int = 32,
        max_buckets: int = 5,
        min_length: int = 5,
        warm_up: int = 10,
    ) -> None:
        if not 0 < delta < 1:
            raise ValueError(f"delta is {delta}, not between 0 and 1")
        if min(clock, max_buckets, min_length, warm_up) < 1:
            raise ValueError(
                f"clock is {clock}, max_buckets {max_buckets}, min_length {min_length} and "
                f"warm_up {warm_up}; none may be below 1"
            )
        self._delta = delta
        self._clock = clock
        self._max_buckets = max_buckets
        self._min_length = min_length
        self._warm_up = warm_up
        super().__init__()

    def _fresh(self) -> _Memory:
        return _Memory()

    def _advance(self, values: Values) -> int | None:
        memory = self._memory
        for index, value in enumerate(values.tolist()):
            self._insert(memory, value)
            if memory.num % self._clock == 0 and memory.num > self._warm_up and self._cuts(memory):
                return index
        return None

    def _insert(self, memory: _Memory, value: float) -> None:
        if memory.num:
            gap = value - memory.total / memory.num
            memory.variance += memory.num * gap * gap / (memory.num + 1)
        memory.num += 1
        memory.total += value
        memory.rows[0].append([value, 0.0])
        size = 1
        for number, row in enumerate(memory.rows):
            if len(row) <= self._max_buckets:
                break
            if number + 1 == len(memory.rows):
                memory.rows.append([])
            memory.rows[number + 1].append(_merged(row[0], row[1], size))
            del row[:2]
            size *= 2

    def _cuts(self, memory: _Memory) -> bool:
        sizes, sums = [], []
        for number in range(len(memory.rows) - 1, -1, -1):
            row = memory.rows[number]
            sizes += [1 << number] * len(row)
            sums += [bucket[0] for bucket in row]
        older = np.cumsum(sizes)[:-1]
        older_sum = np.cumsum(sums)[:-1]
        newer = memory.num - older
        wide = (older >= self._min_length) & (newer >= self._min_length)
        older, older_sum, newer = older[wide], older_sum[wide], newer[wide]
        gaps = np.abs(older_sum / older - (memory.total - older_sum) / newer)
        inverse = 1.0 / (older - self._min_length + 1) + 1.0 / (newer - self._min_length + 1)
        strict = math.log(2.0 * math.log(memory.num) / self._delta)
        variance = memory.variance / memory.num
        limits = np.sqrt(2.0 * inverse * variance * strict) + 2.0 / 3.0 * strict * inverse
        return bool((gaps > limits).any())


def _merged(first: list[float], second: list[float], size: int) -> list[float]:
    """Sum and variance of two neighbouring buckets of `size` errors."""
    gap = (first[0] - second[0]) / size
    return [first[0] + second[0], first[1] + second[1] + size * gap * gap / 2.0]
