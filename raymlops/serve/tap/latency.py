"""Fixed latency buckets, so that counts of any replicas and windows merge by addition."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

# 0.1 ms to 30 s in steps of 10^(1/10), about 26 % wide: enough to tell p50 from p99.
BOUNDS_S: tuple[float, ...] = tuple(10 ** (exponent / 10) for exponent in range(-40, 16))
NUM_BUCKETS = len(BOUNDS_S) + 1


def bucket(seconds: float) -> int:
    """The index of the bucket (BOUNDS_S[i-1], BOUNDS_S[i]] that `seconds` falls into."""
    return bisect_left(BOUNDS_S, seconds)


def quantile_s(counts: Sequence[int], q: float) -> float:
    """An upper bound of the q-quantile in seconds; NaN when nothing was counted."""
    total = sum(counts)
    if total == 0:
        return float("nan")
    reached = (index for index, seen in enumerate(accumulate(counts)) if seen >= q * total)
    return BOUNDS_S[min(next(reached), len(BOUNDS_S) - 1)]
