"""What a step is said to have taken."""

from __future__ import annotations

import time

import pytest

from raymlops.train.loop import meter
from raymlops.train.loop.meter import Meter


def test_memory_is_told_of_every_step_and_looked_up_twice_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, sizes = 100.0, iter([1, 2, 3])
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(meter, "host_memory_bytes", lambda: next(sizes) << 20)
    told, measured = [], Meter()
    for _ in range(6):
        now += 0.25
        told.append(measured.finish(num_rows=1)["memory_mb"])
    assert told == [1, 1, 2, 2, 3, 3]
