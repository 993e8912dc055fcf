from __future__ import annotations

import math

from raymlops.serve.tap.latency import BOUNDS_S, NUM_BUCKETS, bucket, quantile_s


def test_every_latency_has_a_bucket() -> None:
    assert bucket(0.0) == 0
    assert bucket(BOUNDS_S[7]) == 7
    assert bucket(1e9) == NUM_BUCKETS - 1


def test_a_quantile_is_an_upper_bound_within_a_bucket() -> None:
    counts = [0] * NUM_BUCKETS
    for milliseconds in range(1, 101):
        counts[bucket(milliseconds / 1000)] += 1
    assert 0.050 <= quantile_s(counts, 0.5) <= 0.050 * 1.26
    assert 0.099 <= quantile_s(counts, 0.99) <= 0.099 * 1.26


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile_s([0] * NUM_BUCKETS, 0.5))
