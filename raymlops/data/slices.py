"""Parts of a table by one of its features: in which part does each row lie?

A row's cell in the reference profile is kept, two bytes a row, and the parts are made of cells
when they are looked at: a category is a part of its own, numbers are cut into four that were
equally large in the reference. A mark is kept beside them, of which features they are: who looks
may have been told of others since.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raymlops.data.bins import Bins, CategoryBins
from raymlops.data.features import Columns
from raymlops.data.profile import Profile

UNKNOWN = np.iinfo(np.uint16).max
"""The cell of rows whose profile does not know the feature."""

_NUM_PARTS = 4


def cells_of(profile: Profile, names: tuple[str, ...], columns: Columns) -> NDArray[np.uint16]:
    """The cell of each row, [1 + names, rows]; the first line is the mark of the names."""
    bins = {each.name: each for each in profile.bins}
    num_rows = len(next(iter(columns.values())))
    found = np.full((1 + len(names), num_rows), UNKNOWN, dtype=np.uint16)
    found[0] = _mark(names)
    for index, name in enumerate(names, start=1):
        if name in bins and name in columns:
            found[index] = bins[name].cells_of(columns[name])
    return found


def cells_by(names: tuple[str, ...], cells: NDArray[np.uint16]) -> NDArray[np.uint16] | None:
    """What `cells_of` found for these names, [names, rows]; None where it was asked for others."""
    if len(cells) != 1 + len(names) or (cells[0] != _mark(names)).any():
        return None
    return cells[1:]


def parts_of(profile: Profile, name: str) -> list[str]:
    """The name of the part each cell of the feature belongs to, [cells]; empty when the profile
    does not know the feature."""
    by_name = {bins.name: bins for bins in profile.bins}
    if name not in by_name:
        return []
    bins = by_name[name]
    if isinstance(bins, CategoryBins):
        known = bins.categories
        return [*known, _beside(known, "other"), _beside(known, "missing")]
    counts = np.asarray(profile.reference[profile.cells[name]], dtype=np.int64)
    return [*_ranges(bins, counts[:-1]), "missing"]


def _mark(names: tuple[str, ...]) -> int:
    """Others have another one, but for one in 65,536."""
    return zlib.crc32("\0".join(names).encode()) & 0xFFFF


def _beside(categories: tuple[str, ...], name: str) -> str:
    """`name`, in parentheses where a category has it already."""
    while name in categories:
        name = f"({name})"
    return name


def _ranges(bins: Bins, counts: NDArray[np.int64]) -> list[str]:
    """Neighbouring cells of numbers, put together so that each part has as many rows; one without
    any, such as that above all that was seen, belongs to the part below."""
    assert not isinstance(bins, CategoryBins), "categories have no order"
    before = np.cumsum(counts) - counts
    numbers = np.minimum(before * _NUM_PARTS // max(1, int(counts.sum())), _NUM_PARTS - 1)
    numbers = np.maximum.accumulate(np.where(counts > 0, numbers, 0))
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    cuts = _told_apart([bins.edges[start - 1] for start in starts[1:].tolist()])
    names = _parts_between(cuts)
    return np.repeat(names, np.diff([*starts, len(numbers)])).tolist()


def _told_apart(edges: list[float]) -> list[str]:
    """Each in the digits, six at least, that it takes to tell it from all others: times are large
    numbers that differ by little."""
    for digits in range(6, 17):
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(texts)) == len(edges):
            return texts
    return list(map(repr, edges))


def _parts_between(cuts: list[str]) -> list[str]:
    """The parts [low, high) that are cut there, as people say it."""
    if not cuts:
        return ["all"]
    between = [f"{low} to {high}" for low, high in pairwise(cuts)]
    return [f"below {cuts[0]}", *between, f"from {cuts[-1]}"]
