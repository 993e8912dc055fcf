"""The same decisions as river's detectors, label by label, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import drift
from river.drift import binary
from scipy.stats import ks_2samp

from raymlops.monitor.detectors import Adwin, Ddm, Detector, Eddm, Kswin, PageHinkley
from raymlops.monitor.detectors.kswin import critical_distance
from tests.monitor.detectors.test_contract import errors

BINARY = [errors((1500, 0.1), (1000, 0.25), (1000, 0.05), seed=seed) for seed in range(4)]


def reals(num: int) -> list[np.ndarray]:
    rng = np.random.default_rng(num)
    return [np.concatenate([rng.normal(size=num), rng.normal(0.8, 1.5, num)]) for _ in range(2)]


PAIRS: dict[str, tuple[Detector[Any], Callable[[], Any], list[np.ndarray]]] = {
    "ddm": (Ddm(), binary.DDM, BINARY),
    "eddm": (Eddm(), binary.EDDM, BINARY),
    "adwin": (Adwin(), drift.ADWIN, [*BINARY, *reals(1000)]),
    "adwin, coarse": (
        Adwin(delta=0.05, clock=8, max_buckets=3, min_length=10, warm_up=30),
        lambda: drift.ADWIN(
            delta=0.05, clock=8, max_buckets=3, min_window_length=10, grace_period=30
        ),
        BINARY,
    ),
    # Ours looks for rises alone: a model that errs less needs no help.
    "page_hinkley": (
        PageHinkley(threshold=15.0),
        lambda: drift.PageHinkley(threshold=15.0, mode="up"),
        [*BINARY, *reals(1000)],
    ),
    "kswin": (Kswin(seed=3), lambda: drift.KSWIN(seed=3), reals(250)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_decisions_are_those_of_river(pair: str) -> None:
    ours, make_theirs, streams = PAIRS[pair]
    found = 0
    for stream in streams:
        theirs = make_theirs()
        alarms = []
        for index, value in enumerate(stream):
            theirs.update(value)
            if theirs.drift_detected:
                alarms.append(index)
        # Like river's, ours starts anew after an alarm; here also after each stream.
        fresh = ours.state() | {"kind": ours.kind}
        assert ours.feed(stream) == tuple(alarms)
        ours.restore(fresh)
        found += len(alarms)
    assert found


@pytest.mark.parametrize(("size", "alpha"), [(30, 0.005), (30, 0.05), (10, 0.01), (50, 0.001)])
def test_the_critical_distance_is_that_of_scipys_exact_test(size: int, alpha: float) -> None:
    def p_value(gap: int) -> float:
        low = np.arange(size, dtype=np.float64)
        return float(ks_2samp(low, low + gap - 0.5, method="exact").pvalue)

    gap = critical_distance(size, alpha)
    assert p_value(gap) <= alpha < p_value(gap - 1)


def test_two_samples_too_small_for_alpha_never_differ() -> None:
    assert critical_distance(2, 0.001) == 3
