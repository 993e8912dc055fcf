"""Wasserstein: how far values must be carried to turn one distribution into the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymlops.data.bins import Bins, Counts, NumberBins
from raymlops.data.drift.base import ALIKE, DriftTest, Reading
from raymlops.data.drift.cells import MIN_EXPECTED


class Wasserstein(DriftTest):
    """The mean distance, in standard deviations of the reference; a shift by 0.1 of one is 0.1.

    Every value stands at the lower edge of its bin, those below the first edge at that: exact where
    each value has a bin of its own, within a bin's width for others, and blind to how far a value
    lies outside of all that the reference knew. Too few above its largest for the p-value to hold
    stand with the bin below: of a long tail, one row of a new maximum would be carried over all of
    it. A constant has no standard deviation, so nothing is said of it; infinite values count in the
    other tests.

    The p-value is an upper bound. The distance is the norm of a process that tends to a Brownian
    bridge; norms exceed their mean E by t with probability at most exp(-t^2 / 2v), where the
    largest variance v of a linear functional is that of the difference of means:
    C. Borell (1975), The Brunn-Minkowski inequality in Gauss space; for the limit E. del Barrio,
    E. Gine, C. Matran (1999), Central limit theorems for the Wasserstein distance.
    """

    name = "wasserstein"
    judges = frozenset({"number"})
    threshold = 0.1

    def applies(self, reference: Counts, window: Counts) -> bool:
        return bool(reference[:-1].any() and window[:-1].any())

    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        assert isinstance(bins, NumberBins)
        edges = np.asarray(bins.edges)
        m, n = int(reference[:-1].sum()), int(window[:-1].sum())
        if m == 0 or n == 0 or edges.size < 2:
            return ALIKE
        finite = np.isfinite(edges)
        finite[-1] &= _are_enough_above(reference, window, m, n)
        if finite.sum() < 2:
            return ALIKE
        # Shares below each edge; those of the first one are carried to it for nothing.
        below = np.cumsum([reference[:-2], window[:-2]], axis=1)[:, finite][:, 1:]
        edges = edges[finite]
        unit = float(np.abs(edges).max())
        widths = np.diff(edges / unit)
        p, q = below / np.array([[m], [n]])
        both = below.sum(axis=0) / (m + n)
        scale = _std(p, widths)
        if scale == 0.0:
            return ALIKE
        distance = float(np.abs(p - q) @ widths)
        noise = np.sqrt(1 / m + 1 / n)
        mean = noise * np.sqrt(2 / np.pi) * float(np.sqrt(both * (1 - both)) @ widths)
        excess = max(0.0, distance - mean) / (noise * _std(both, widths))
        return Reading(distance / scale, float(np.exp(-(excess**2) / 2)))


def _are_enough_above(reference: Counts, window: Counts, m: int, n: int) -> bool:
    """Whether either side is expected to have `MIN_EXPECTED` rows, or more, above the last edge."""
    above = int(reference[-2] + window[-2])
    return above * min(m, n) >= MIN_EXPECTED * (m + n)


def _std(below: NDArray[np.float64], widths: NDArray[np.float64]) -> float:
    """The standard deviation of values at the edges, of which the share `below` lies under each."""
    position = np.concatenate([[0.0], np.cumsum(widths)])
    shares = np.diff(below, prepend=0.0, append=1.0)
    mean = shares @ position
    return float(np.sqrt(max(0.0, shares @ (position - mean) ** 2)))
