"""What differs between two dataset versions: rows, columns, statistics, distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raymlops.data.datasets import open_dataset
from raymlops.data.distributions import Comparison, Distributions, LocalRows
from raymlops.data.drift import DriftPolicy, FeatureDrift
from raymlops.data.statistics import ColumnStatistics
from raymlops.data.views import shared
from raymlops.ledger import Dataset
from raymlops.storage import Store


@dataclass(frozen=True, kw_only=True)
class ColumnDifference:
    """A column before and after, None where it is not there; `drift` where both compare."""

    name: str
    before: ColumnStatistics | None
    after: ColumnStatistics | None
    drift: FeatureDrift | None

    @property
    def change(self) -> str:
        """What became of the column itself: added, removed, its types, or nothing."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        if self.before.type != self.after.type:
            return f"{self.before.type} -> {self.after.type}"
        return ""


@dataclass(frozen=True, kw_only=True)
class DatasetDifference:
    before: Dataset
    after: Dataset
    columns: tuple[ColumnDifference, ...]

    @property
    def same_content(self) -> bool:
        return self.before.digest == self.after.digest


def difference(
    store: Store, before: Dataset, after: Dataset, *, policy: DriftPolicy | None = None
) -> DatasetDifference:
    """`after` held against `before`: every column of either, with the drift the monitor would see.

    Reads both versions once, in bounded memory.
    """
    old, new = _statistics(before), _statistics(after)
    drift = {
        each.feature: each
        for each in _drift(store, before, after, policy or DriftPolicy(spending=False))
    }
    names = [*old, *(name for name in new if name not in old)]
    return DatasetDifference(
        before=before,
        after=after,
        columns=tuple(
            ColumnDifference(
                name=name, before=old.get(name), after=new.get(name), drift=drift.get(name)
            )
            for name in names
        ),
    )


def _statistics(dataset: Dataset) -> dict[str, ColumnStatistics]:
    columns = [ColumnStatistics.from_dict(values) for values in dataset.statistics]
    return {column.name: column for column in columns}


def _drift(
    store: Store, before: Dataset, after: Dataset, policy: DriftPolicy
) -> Sequence[FeatureDrift]:
    if before.digest == after.digest:
        return ()
    old, new = open_dataset(store, before), open_dataset(store, after)
    names = shared(old.schema, new.schema)
    distributions = Distributions.of(LocalRows(old), names)
    comparison = Comparison(distributions)
    comparison.add(LocalRows(new).count(distributions.layout))
    return comparison.verdicts(policy)
