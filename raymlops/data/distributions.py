"""How the columns of some rows are distributed, to hold other rows against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raymlops.data.bins import Bins, Counts, bins_of
from raymlops.data.drift import DriftPolicy, FeatureDrift, judge
from raymlops.data.features import Feature, read_columns
from raymlops.data.rules.base import Batches, is_category, is_number
from raymlops.data.sample import Sample

# Bins and reference counts come from a sample of this many rows. A KS distance is then known to
# 0.003 (95 %), a sixth of the smallest that matters, and memory stays bounded.
_MAX_REFERENCE_ROWS = 200_000


@dataclass(frozen=True)
class Distributions:
    """Bins by feature and the counts of the reference rows in them."""

    features: tuple[Feature, ...]
    bins: tuple[Bins, ...]
    counts: tuple[Counts, ...]

    @classmethod
    def of(cls, reference: Batches, names: Iterable[str]) -> Distributions:
        """Those of the numbers and categories among the columns `names`."""
        features = comparable(reference.schema, names)
        wanted = [feature.name for feature in features]
        sample = Sample(_MAX_REFERENCE_ROWS)
        for batch in reference.batches(wanted):
            sample.feed(batch)
        schema = pa.schema([reference.schema.field(name) for name in wanted])
        columns = read_columns(sample.table(schema), features)
        bins = tuple(bins_of(feature, columns[feature.name]) for feature in features)
        return cls(features, bins, tuple(each.count(columns[each.name]) for each in bins))


class Comparison:
    """Counts rows in the bins of a reference, batch by batch, and judges them."""

    def __init__(self, reference: Distributions) -> None:
        self._reference = reference
        self._num_rows = 0
        self._counts: list[Counts] = [np.zeros_like(counts) for counts in reference.counts]

    def feed(self, batch: pa.RecordBatch) -> None:
        """Counts `batch`, which holds the reference's columns and maybe others."""
        table = pa.Table.from_batches([batch])
        columns = read_columns(table, self._reference.features)
        for counts, bins in zip(self._counts, self._reference.bins, strict=True):
            counts += bins.count(columns[bins.name])
        self._num_rows += batch.num_rows

    def verdicts(self, policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
        """One for each feature; empty when there are too few rows on either side."""
        reference = self._reference
        num_reference = int(reference.counts[0].sum()) if reference.counts else 0
        if min(self._num_rows, num_reference) < policy.min_rows:
            return ()
        counted = zip(reference.bins, reference.counts, self._counts, strict=True)
        return judge(counted, self._num_rows, policy)


def comparable(schema: pa.Schema, names: Iterable[str]) -> tuple[Feature, ...]:
    """The numbers, categories and booleans among `names`, as features."""
    kinds = ((name, schema.field(name).type) for name in names)
    return tuple(
        Feature(name=name, kind="number" if is_number(kind) else "category", max_missing=1.0)
        for name, kind in kinds
        if can_compare(kind)
    )


def can_compare(kind: pa.DataType) -> bool:
    return is_number(kind) or is_category(kind) or bool(pa.types.is_boolean(kind))


def shared(left: pa.Schema, right: pa.Schema) -> Sequence[str]:
    """Columns that both have and that are numbers in both, or categories in both."""
    return [
        field.name
        for field in left
        if field.name in right.names
        and can_compare(field.type)
        and can_compare(right.field(field.name).type)
        and is_number(field.type) == is_number(right.field(field.name).type)
    ]
