"""What is in each column, counted batch by batch: shares, bounds, moments, frequent values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.rules.base import example, is_category, is_missing, is_number

# Beyond this many a column is more an identifier than a category: nobody reads its frequent
# values, and counting them would take memory without bound.
_MAX_DISTINCT = 10_000
_NUM_TOP = 10

Value = float | int | str | bool | None


@dataclass(frozen=True, kw_only=True)
class ColumnStatistics:
    """One column: `count` known values and `missing` ones (null, or NaN among floats).

    `mean` and `std` (of a sample) are those of finite numbers. `distinct` is None when there are
    more than 10,000 values, `top` then empty. Times and non-finite bounds are texts, durations
    seconds.
    """

    name: str
    type: str
    count: int
    missing: int
    min: Value = None
    max: Value = None
    mean: float | None = None
    std: float | None = None
    distinct: int | None = None
    top: tuple[tuple[Value, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ColumnStatistics:
        top = tuple((value, count) for value, count in values["top"])
        return cls(**{**values, "top": top})


class Statistics:
    """The statistics of all columns of `schema`, over the batches that were fed."""

    def __init__(self, schema: pa.Schema) -> None:
        self.num_rows = 0
        self._columns = [_Column(field.name, field.type) for field in schema]

    def feed(self, batch: pa.RecordBatch) -> None:
        self.num_rows += batch.num_rows
        for state, column in zip(self._columns, batch.columns, strict=True):
            state.feed(column)

    def columns(self) -> tuple[ColumnStatistics, ...]:
        return tuple(state.result() for state in self._columns)


@dataclass
class _Column:
    name: str
    type: pa.DataType
    count: int = 0
    missing: int = 0
    low: Any = None
    high: Any = None
    num_finite: int = 0
    mean: float = 0.0
    squares: float = 0.0
    values: Counter[Any] | None = field(default_factory=Counter)

    def feed(self, column: pa.Array) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        missing = is_missing(column)
        num_missing = pc.sum(missing).as_py() or 0
        self.missing += num_missing
        self.count += len(column) - num_missing
        known = column.filter(pc.invert(missing)) if num_missing else column
        if not len(known) or not _is_plain(column.type):
            return
        known = _sortable(known)
        self._bound(known)
        if is_number(column.type):
            self._add_moments(known)
        self._add_values(known)

    def _bound(self, known: pa.Array) -> None:
        bounds = pc.min_max(known)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)

    def _add_moments(self, known: pa.Array) -> None:
        """Chan, Golub and LeVeque (1979), Updating formulae: exact merging of two parts."""
        if pa.types.is_floating(known.type):
            known = known.filter(pc.is_finite(known))
        count = len(known)
        if not count:
            return
        mean = pc.mean(known).as_py()
        squares = pc.variance(known, ddof=0).as_py() * count
        total = self.num_finite + count
        shift = mean - self.mean
        self.squares += squares + shift * shift * self.num_finite * count / total
        self.mean += shift * count / total
        self.num_finite = total

    def _add_values(self, known: pa.Array) -> None:
        if self.values is None:
            return
        counted = pc.value_counts(known)
        if len(counted) <= _MAX_DISTINCT:
            pairs = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
            for value, count in pairs:
                self.values[value] += count
        if len(counted) > _MAX_DISTINCT or len(self.values) > _MAX_DISTINCT:
            self.values = None

    def result(self) -> ColumnStatistics:
        plain, values = _is_plain(self.type), self.values
        ranked = sorted((values or {}).items(), key=lambda pair: (-pair[1], str(pair[0])))
        has_top = is_category(self.type) or pa.types.is_boolean(self.type)
        moments = self.num_finite > 0
        return ColumnStatistics(
            name=self.name,
            type=str(self.type),
            count=self.count,
            missing=self.missing,
            min=_as_read(self.low, self.type),
            max=_as_read(self.high, self.type),
            mean=_finite(self.mean) if moments else None,
            std=_finite(math.sqrt(self.squares / (self.num_finite - 1)))
            if self.num_finite > 1
            else None,
            distinct=len(values) if plain and values is not None else None,
            top=tuple((_as_read(each, self.type), count) for each, count in ranked[:_NUM_TOP])
            if has_top
            else (),
        )


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values of the type have an order and can be told from each other."""
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    return bool(
        is_number(kind)
        or is_category(kind)
        or pa.types.is_boolean(kind)
        or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind))
        or pa.types.is_decimal(kind)
    )


def _sortable(known: pa.Array) -> pa.Array:
    """The same values in a type that Arrow can order, and that Python has all values of.

    Times are counts of their unit: Python's calendar ends with the year 9999, Arrow's does not.
    """
    kind = known.type
    if pa.types.is_temporal(kind):
        return known.view(_counted_in(kind))
    if pa.types.is_float16(kind):
        return known.cast(pa.float32())
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return known.cast(pa.decimal128(kind.precision, kind.scale))
    return known


def _as_read(value: Any, kind: pa.DataType) -> Value:
    """A value out of a `_sortable` column that was of type `kind`, for people to read."""
    if pa.types.is_dictionary(kind):
        return _as_read(value, kind.value_type)
    if value is None or not pa.types.is_temporal(kind):
        return _value(value)
    time = pa.scalar(value, _counted_in(kind)).cast(kind)
    try:
        return _value(time.as_py())
    except OverflowError:
        return example(time)


def _counted_in(kind: pa.DataType) -> pa.DataType:
    """The whole numbers that times of type `kind` are."""
    return pa.int32() if kind.bit_width == 32 else pa.int64()


def _value(value: Any) -> Value:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case str():
            return example(value)
        case bool() | int() | float() | None:
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case _:
            return str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
