"""How the columns of some rows are distributed, to hold other rows against them.

reference ─▶ sample ─▶ Layout: views and bins ─▶ counts of all rows
                               window ─────────▶ counts of all rows ─▶ verdicts
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from raymlops.data.bins import Bins, Counts, bins_of
from raymlops.data.drift import DriftPolicy, FeatureDrift, judge
from raymlops.data.features import Column, Columns, Feature
from raymlops.data.rules.base import Batches
from raymlops.data.sample import Sample
from raymlops.data.views import View, views_of

# Edges come from a sample of this many rows; the counts in them are those of all rows, so where
# an edge lies costs no accuracy.
MAX_SAMPLE_ROWS = 200_000


@dataclass(frozen=True)
class Layout:
    """What is compared, and the bins it is counted in: one vector of counts for all."""

    views: tuple[View, ...]
    bins: tuple[Bins, ...]

    @classmethod
    def of(cls, sample: pa.Table, names: Iterable[str]) -> Layout:
        views = views_of(sample, names)
        return cls(views, tuple(map(bins_of, _told_apart(views), _read(views, sample))))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that are read."""
        return tuple(view.column for view in self.views)

    def read(self, table: pa.Table) -> Columns:
        """The values of each feature."""
        return {each.name: column for each, column in self._columns(table)}

    def count(self, table: pa.Table) -> Counts:
        """Rows by cell; counts of several tables add up to that of all their rows."""
        counts = [each.count(column) for each, column in self._columns(table)]
        return np.concatenate(counts) if counts else self.nothing()

    def nothing(self) -> Counts:
        return np.zeros(sum(each.num_cells for each in self.bins), dtype=np.int64)

    def split(self, counts: Counts) -> Iterator[tuple[Bins, Counts]]:
        """The counts of each feature."""
        ends = np.cumsum([each.num_cells for each in self.bins])
        return zip(self.bins, np.split(counts, ends[:-1]), strict=True)

    def _columns(self, table: pa.Table) -> Iterator[tuple[Bins, Column]]:
        return zip(self.bins, _read(self.views, table), strict=True)


class Rows(Protocol):
    """Rows that can be sampled and counted, wherever they lie."""

    @property
    def schema(self) -> pa.Schema: ...

    def sample(self, columns: Iterable[str], max_rows: int) -> pa.Table:
        """At most about `max_rows` rows, each as likely as any other."""

    def count(self, layout: Layout) -> Counts:
        """All rows by cell."""


class LocalRows:
    """Rows read here, batch by batch."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.schema: pa.Schema = batches.schema

    def sample(self, columns: Iterable[str], max_rows: int) -> pa.Table:
        names = list(columns)
        sample = Sample(max_rows)
        for batch in self._batches.batches(names):
            sample.feed(batch)
        return sample.table(pa.schema([self.schema.field(name) for name in names]))

    def count(self, layout: Layout) -> Counts:
        counts = layout.nothing()
        for batch in self._batches.batches(layout.columns):
            counts += layout.count(pa.Table.from_batches([batch]))
        return counts


@dataclass(frozen=True)
class Distributions:
    """The counts of reference rows in bins of their own."""

    layout: Layout
    counts: Counts

    @classmethod
    def of(cls, reference: Rows, names: Iterable[str]) -> Distributions:
        """Those of the columns `names` that can be compared."""
        wanted = list(names)
        sample = reference.sample(wanted, MAX_SAMPLE_ROWS)
        layout = Layout.of(sample, wanted)
        return cls(layout, reference.count(layout))


class Comparison:
    """Counts rows in the bins of a reference, batch by batch, and judges them."""

    def __init__(self, reference: Distributions) -> None:
        self._reference = reference
        self._counts = reference.layout.nothing()

    def feed(self, batch: pa.RecordBatch) -> None:
        """Counts `batch`, which holds the reference's columns and maybe others."""
        self.add(self._reference.layout.count(pa.Table.from_batches([batch])))

    def add(self, counts: Counts) -> None:
        self._counts = self._counts + counts

    def counted(self) -> Iterator[tuple[Bins, Counts, Counts]]:
        """Bins of each feature, with the counts of the reference and of what was fed."""
        layout = self._reference.layout
        sides = zip(layout.split(self._reference.counts), layout.split(self._counts), strict=True)
        return ((bins, reference, window) for (bins, reference), (_, window) in sides)

    @property
    def num_rows(self) -> tuple[int, int]:
        """Of the reference, and of what was fed."""
        _, reference, window = next(self.counted())
        return int(reference.sum()), int(window.sum())

    def verdicts(self, policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
        """One for each feature; empty when there are too few rows on either side."""
        if not self._reference.layout.bins or min(self.num_rows) < policy.min_rows:
            return ()
        return judge(self.counted(), self.num_rows[1], policy)


def _told_apart(views: Sequence[View]) -> Iterator[Feature]:
    """What the views make; what is called like another column tells its own, too."""
    taken = {view.column for view in views}
    for view in views:
        for feature in view.features:
            name = feature.name
            while name in taken and name != view.column:
                name = f"{name} (of {view.column})"
            taken.add(name)
            yield replace(feature, name=name)


def _read(views: Iterable[View], table: pa.Table) -> Iterator[Column]:
    for view in views:
        yield from view.read(table)
