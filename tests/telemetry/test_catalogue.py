from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from raymlops.telemetry import CATALOGUE, FROM_RAY, Metric, catalogue


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ({"name": "requests_total", "kind": "counter"}, "is not raymlops_ and small letters"),
        ({"name": "raymlops_requests", "kind": "counter"}, "counters end in _total"),
        ({"name": "raymlops_queue_total", "kind": "gauge"}, "counters end in _total"),
        ({"name": "raymlops_wait_ms", "kind": "gauge"}, "is not in base units"),
        ({"name": "raymlops_wait_ms_total", "kind": "counter"}, "is not in base units"),
        ({"name": "raymlops_wait_seconds", "kind": "histogram"}, r"with bounds \(\)"),
        ({"name": "raymlops_ab", "kind": "histogram", "bounds": (2.0, 1.0)}, "which do not rise"),
    ],
)
def test_a_metric_that_breaks_a_convention_is_refused(metric: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Metric(help="anything", **metric)


def test_a_metric_is_declared_once() -> None:
    """Of two declarations under one name Python keeps the second, and rules followed the first."""
    declared = re.findall(r'"(raymlops_[a-z0-9_]+)"', inspect.getsource(catalogue))
    assert declared == list(CATALOGUE)


def test_nothing_that_ray_exports_is_repeated() -> None:
    ours = {name.removeprefix("raymlops_") for name in CATALOGUE}
    assert not ours & {name.removeprefix("ray_") for name in FROM_RAY}
