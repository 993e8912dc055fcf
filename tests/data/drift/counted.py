"""Counts of two samples in the bins of the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raymlops.data import Counts, Feature
from raymlops.data.bins import Bins, bins_of, quantile_bins
from raymlops.data.drift import TESTS, Reading, TestName


def numbers(reference: Sequence[float], window: Sequence[float]) -> tuple[Bins, Counts, Counts]:
    bins = quantile_bins("x", np.asarray(reference, dtype=np.float64))
    return bins, bins.count(np.asarray(reference)), bins.count(np.asarray(window))


def categories(
    reference: Sequence[str | None], window: Sequence[str | None]
) -> tuple[Bins, Counts, Counts]:
    column = np.array(reference, dtype=object)
    bins = bins_of(Feature(name="c", kind="category", max_missing=1.0), column)
    return bins, bins.count(column), bins.count(np.array(window, dtype=object))


def measure(test: TestName, counted: tuple[Bins, Counts, Counts]) -> Reading:
    return TESTS[test].measure(*counted)
