"""Two tables, held against each other: every column, all columns together, and their types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from raymlops.data.bins import Bins, Counts, NumberBins
from raymlops.data.distributions import (
    MAX_SAMPLE_ROWS,
    Comparison,
    Distributions,
    Layout,
    Rows,
)
from raymlops.data.drift import DriftPolicy, FeatureDrift, Reading
from raymlops.data.drift.cells import tenths
from raymlops.data.drift.jointly import JOINT_THRESHOLD, MAX_ROWS, judge_jointly
from raymlops.data.views import shared
from raymlops.errors import DataError

_MAX_CATEGORIES_SHOWN = 10
_MAX_NAMED = 5

_SMALLEST_P = 1e-300


@dataclass(frozen=True, kw_only=True)
class ColumnChange:
    """A column that only one table has, or that has become something else; None where it is not."""

    column: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.column} is new ({self.after})"
        if self.after is None:
            return f"{self.column} ({self.before}) is gone"
        return f"{self.column} was {self.before} and is {self.after}"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The share of rows in some neighbouring cells, before and after."""

    label: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class FeatureComparison:
    """The verdict on one feature, the effect it must exceed, and its distribution in a few bars."""

    verdict: FeatureDrift
    threshold: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class TableDrift:
    """What differs between two tables.

    `together` is how far whole rows can be told apart; it must exceed `threshold_together`, and
    its p-value `alpha`. Columns `retyped` are compared all the same, as whole numbers are with
    others. Of the columns `not_compared` both have the same type, which is no number, category or
    embedding.
    """

    num_rows: tuple[int, int]
    alpha: float
    changes: tuple[ColumnChange, ...]
    retyped: tuple[ColumnChange, ...]
    not_compared: tuple[str, ...]
    features: tuple[FeatureComparison, ...]
    together: Reading
    threshold_together: float = JOINT_THRESHOLD

    @property
    def drifted(self) -> tuple[FeatureComparison, ...]:
        """The features that drifted, the farthest first."""
        found = (each for each in self.features if each.verdict.drifted)
        return tuple(sorted(found, key=lambda each: -each.verdict.effect))

    @property
    def drifted_together(self) -> bool:
        effect, p_value = self.together
        return effect > self.threshold_together and p_value < self.alpha

    @property
    def alike(self) -> bool:
        return not (self.changes or self.drifted or self.drifted_together)


def compare_tables(
    before: Rows, after: Rows, *, policy: DriftPolicy, columns: Sequence[str] = ()
) -> TableDrift:
    """`after` held against `before`, in bounded memory; without `columns` all that both have.

    Half of alpha goes to the columns, half to the rows as a whole.

    Raises:
        DataError: a column of `columns` cannot be compared, there is none that can, or a table
            has too few rows.
    """
    names = _comparable(before.schema, after.schema, columns)
    others = () if columns else _others(before.schema, after.schema, names)
    sample = before.sample(names, MAX_SAMPLE_ROWS)
    layout = Layout.of(sample, names)
    comparison = Comparison(Distributions(layout, before.count(layout)))
    comparison.add(after.count(layout))
    num_rows = comparison.num_rows
    if min(num_rows) < policy.min_rows:
        raise DataError(
            f"the tables have {num_rows[0]:,} and {num_rows[1]:,} rows; drift is judged from "
            f"{policy.min_rows:,} on, set monitor.drift.min_rows to change that"
        )
    once = replace(policy, alpha=policy.alpha / 2, spending=False)
    verdicts = {each.feature: each for each in comparison.verdicts(once)}
    return TableDrift(
        num_rows=num_rows,
        alpha=once.alpha,
        changes=tuple(_changes(before.schema, after.schema, others)),
        retyped=tuple(_changes(before.schema, after.schema, names)),
        not_compared=tuple(_not_compared(before.schema, after.schema, others)),
        features=tuple(
            FeatureComparison(
                verdict=verdicts[bins.name],
                threshold=policy.threshold(bins.name, verdicts[bins.name].test),
                bars=tuple(_bars(bins, reference, window)),
            )
            for bins, reference, window in comparison.counted()
            if bins.name in verdicts
        ),
        together=judge_jointly(
            layout.read(_some(sample)), layout.read(after.sample(layout.columns, MAX_ROWS))
        ),
    )


def _some(sample: pa.Table) -> pa.Table:
    """Rows by chance: every n-th of hourly ones may all be of one hour."""
    order = np.random.default_rng(0).permutation(sample.num_rows)
    return sample.take(np.sort(order[:MAX_ROWS]))


def shown_p_value(p_value: float) -> str:
    """For people: 0.00021, and where floats end no zero, which no chance ever is."""
    return f"{p_value:.2g}" if p_value > _SMALLEST_P else f"< {_SMALLEST_P:g}"


def _comparable(before: pa.Schema, after: pa.Schema, columns: Sequence[str]) -> Sequence[str]:
    can = shared(before, after)
    cannot = [name for name in columns if name not in can]
    if cannot or not can:
        named = cannot or list(dict.fromkeys([*before.names, *after.names]))
        details = "; ".join(
            f"{name} is {_type(before, name) or 'missing'} before and "
            f"{_type(after, name) or 'missing'} after"
            for name in named[:_MAX_NAMED]
        )
        raise DataError(
            f"cannot compare {', '.join(cannot) or 'any column'}: {details}; a column must be a "
            "number, a category or an embedding in both tables"
        )
    return list(dict.fromkeys(columns)) or can


def _others(before: pa.Schema, after: pa.Schema, names: Iterable[str]) -> Sequence[str]:
    """The columns of either table without `names`."""
    compared = set(names)
    every = dict.fromkeys([*before.names, *after.names])
    return [name for name in every if name not in compared]


def _changes(before: pa.Schema, after: pa.Schema, names: Iterable[str]) -> Iterator[ColumnChange]:
    """What became of the columns `names`, of those that are not as they were."""
    for name in names:
        types = _type(before, name), _type(after, name)
        if types[0] != types[1]:
            yield ColumnChange(column=name, before=types[0], after=types[1])


def _not_compared(before: pa.Schema, after: pa.Schema, names: Iterable[str]) -> Iterator[str]:
    """The columns `names` in which the tables do not differ, with their type."""
    for name in names:
        if _type(before, name) == _type(after, name):
            yield f"{name} ({_type(before, name)})"


def _type(schema: pa.Schema, name: str) -> str | None:
    return str(schema.field(name).type) if name in schema.names else None


def _bars(bins: Bins, reference: Counts, window: Counts) -> Iterator[Bar]:
    m, n = max(int(reference.sum()), 1), max(int(window.sum()), 1)
    for label, start, end in _groups(bins, reference, window):
        before, after = reference[start:end].sum() / m, window[start:end].sum() / n
        if before or after:
            yield Bar(label=label, before=float(before), after=float(after))


def _groups(bins: Bins, reference: Counts, window: Counts) -> Iterator[tuple[str, int, int]]:
    """Neighbouring cells, and what they hold in words."""
    missing = bins.num_cells - 1
    if isinstance(bins, NumberBins):
        starts = tenths(reference)
        for start, end in zip(starts, [*starts[1:], missing], strict=True):
            yield _range(bins.edges, int(start), int(end)), int(start), int(end)
    else:
        shown = min(len(bins.categories), _MAX_CATEGORIES_SHOWN)
        for cell, name in enumerate(bins.categories[:shown]):
            yield name, cell, cell + 1
        yield "other", shown, missing
    yield "missing", missing, missing + 1


def _range(edges: tuple[float, ...], start: int, end: int) -> str:
    """The values in the cells [start, end); cell i begins at edge i - 1."""
    low = f"{edges[start - 1]:.4g}" if start > 0 else None
    high = f"{edges[end - 1]:.4g}" if end - 1 < len(edges) else None
    if low is None:
        return f"below {high}" if high is not None else "any"
    if high is None:
        return f"from {low}"
    return low if low == high else f"{low} to {high}"
