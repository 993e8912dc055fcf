"""Coarser cells, for tests whose approximations need rows in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymlops.data.bins import Bins, Counts, NumberBins
from raymlops.data.drift.shares import p_value_of_shares

_NUM_GROUPS = 10

MIN_EXPECTED = 5.0
"""The usual limit below which chi-square is no longer a good approximation."""

MIN_EXPECTED_OF_LOGARITHMS = 25.0
"""The same of statistics made of logarithms, whose tails are heavier: with 5, of features that had
not changed the G test called 11 of 100 unlikely at 0.05."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Counts of reference and window: `core` [2, cells], each with enough expected rows, and
    `rare` [2], those of all other cells together, which have too few even so.

    To put the rare ones into a cell with others would hide what moves between the two: a category
    that was renamed, or went missing, and was the least frequent one before.
    """

    core: Counts
    rare: Counts

    @property
    def whole(self) -> Counts:
        """All rows, [2, cells]; the rare ones last, where there are any."""
        if not self.rare.any():
            return self.core
        return np.concatenate([self.core, self.rare[:, np.newaxis]], axis=1)

    def p_value(self, of_core: Callable[[Counts], float]) -> float:
        """The smaller one of the core, by an approximation, and of the share of the rare rows,
        exactly; doubled where there are both."""
        p_values = []
        if self.core.shape[1] > 1 and self.core.sum(axis=1).all():
            p_values.append(of_core(self.core))
        if self.rare.any() and self.core.any():
            p_values.append(p_value_of_shares(self.rare, self.whole.sum(axis=1)))
        return min(1.0, len(p_values) * min(p_values, default=1.0))


def table_of(bins: Bins, reference: Counts, window: Counts, min_expected: float) -> Table:
    """Both windows' counts, with at least `min_expected` rows expected in a cell of the core.

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


def _without_rare(table: Counts, min_expected: float) -> Table:
    """The rare cells put together with one another, as many as it takes each time."""
    rows = table.sum(axis=1)
    if not rows.all():
        return Table(core=table.sum(axis=1, keepdims=True), rare=np.zeros(2, dtype=np.int64))
    table = table[:, np.argsort(table.sum(axis=0), kind="stable")]
    least = table.sum(axis=0) * rows.min() / rows.sum()  # ascending expected counts
    num_rare = int(np.searchsorted(least, min_expected))
    groups = _groups(least[:num_rare].tolist(), min_expected)
    if not groups:
        return Table(core=table[:, num_rare:], rare=table[:, :num_rare].sum(axis=1))
    starts = [*groups, *range(num_rare, table.shape[1])]
    return Table(core=np.add.reduceat(table, starts, axis=1), rare=np.zeros(2, dtype=np.int64))


def _groups(least: Sequence[float], min_expected: float) -> list[int]:
    """The first cell of each group of neighbours that reaches `min_expected`; what is left over
    belongs to the last."""
    starts, inside = [0], 0.0
    for cell, expected in enumerate(least):
        inside += expected
        if inside >= min_expected:
            starts.append(cell + 1)
            inside = 0.0
    return starts[:-1]
