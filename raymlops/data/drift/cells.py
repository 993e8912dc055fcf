"""Coarser cells, for tests whose approximations need rows in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raymlops.data.bins import Bins, Counts, NumberBins

_NUM_GROUPS = 10

MIN_EXPECTED = 5.0
"""The usual limit below which chi-square is no longer a good approximation."""


def table_of(bins: Bins, reference: Counts, window: Counts, min_expected: float) -> Counts:
    """Both windows' counts, [2, cells], with at least `min_expected` rows expected in a cell.

    Numbers are merged into tenths of the reference first, and missing values. A table of one
    column says nothing.
    """
    table = np.stack([reference, window])
    if isinstance(bins, NumberBins):
        table = _in_tenths(table)
    return _without_rare(table, min_expected)


def tenths(reference: Counts) -> NDArray[np.int64]:
    """The first of the neighbouring known cells whose middle lies in one tenth of the reference.

    A cell above a constant stays alone: its middle is the end of all rows.
    """
    known = reference[:-1]
    middle = np.cumsum(known) - known / 2
    group = np.minimum(middle * _NUM_GROUPS / max(known.sum(), 1), _NUM_GROUPS - 1).astype(int)
    return np.flatnonzero(np.diff(group, prepend=-1))


def _in_tenths(table: Counts) -> Counts:
    starts = tenths(table[0])
    merged: Counts = np.add.reduceat(table[:, :-1], starts, axis=1)
    return np.concatenate([merged, table[:, -1:]], axis=1)


def _without_rare(table: Counts, min_expected: float) -> Counts:
    """The rarest cells pooled into one, as many as it takes."""
    rows = table.sum(axis=1)
    if not rows.all():
        nothing: Counts = table.sum(axis=1, keepdims=True)
        return nothing
    table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    least = table.sum(axis=0) * rows.min() / rows.sum()  # ascending expected counts
    num_rare = int(np.searchsorted(least, min_expected))
    if num_rare and least[:num_rare].sum() < min_expected:
        num_rare += 1
    starts = [0, *range(max(num_rare, 1), table.shape[1])]
    pooled: Counts = np.add.reduceat(table, starts, axis=1)
    return pooled
