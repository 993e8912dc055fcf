"""Running an engine before it takes traffic: for what it does at first only, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from raymlops.data import Columns
from raymlops.serve.batching.outputs import Run
from raymlops.serve.batching.speed import EngineSpeed

_SIZES = (1, 32)
_NUM_MEASURED = 2


def warm_up(run: Run, sample: Callable[[int], Columns]) -> EngineSpeed:
    """Runs batches of several sizes, each once for its caches and then to be measured.

    Raises what the engine does: one that cannot run its own sample rows gets no traffic.
    """
    return EngineSpeed({size: _seconds(run, sample(size)) for size in _SIZES})


def _seconds(run: Run, columns: Columns) -> float:
    run(columns)
    return min(_timed(run, columns) for _ in range(_NUM_MEASURED))


def _timed(run: Run, columns: Columns) -> float:
    started = time.perf_counter()
    run(columns)
    return time.perf_counter() - started
