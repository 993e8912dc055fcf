"""Rules about each value of one column: range, finiteness, set, pattern, any Python function.

A missing value breaks none of them; how many may be missing is a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.features import as_floats
from raymlops.data.rules.base import (
    Checker,
    Expectation,
    Finding,
    References,
    RowChecker,
    is_category,
    is_missing,
    is_number,
)


@dataclass(frozen=True, kw_only=True)
class Range(Expectation):
    """Numbers, dates or timestamps lie within `low` and `high` (inclusive), `above` and `below`
    (exclusive)."""

    rule: Literal["range"] = "range"
    column: str
    low: float | datetime | None = None
    high: float | datetime | None = None
    above: float | datetime | None = None
    below: float | datetime | None = None
    wants: ClassVar[str] = "number, date or timestamp"

    def __post_init__(self) -> None:
        if not self._bounds:
            raise ValueError(f"the range of {self.column} has no bound: low, high, above or below")
        if len({isinstance(bound, datetime) for _, bound, _ in self._bounds}) > 1:
            raise ValueError(f"the range of {self.column} has numbers and times; give one of them")
        for words, bound, _ in self._bounds:
            if bound != bound:
                raise ValueError(f"{self.column}: {words} {bound} would let every value pass")
        if len({isinstance(b, datetime) and b.tzinfo is None for _, b, _ in self._bounds}) > 1:
            raise ValueError(
                f"the range of {self.column} has times with a zone and without; give one kind"
            )
        for low in (self.low, self.above):
            for high in (self.high, self.below):
                if low is not None and high is not None and low > high:  # type: ignore[operator]
                    raise ValueError(f"{self.column}: low {low} is above high {high}")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def accepts(self, kind: pa.DataType) -> bool:
        if isinstance(self._bounds[0][1], datetime):
            return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
        return is_number(kind)

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        return _All(
            [
                _values(self.column, f"{words} {_shown(bound)}", _beyond(beyond, bound))
                for words, bound, beyond in self._bounds
            ]
        )

    @property
    def _bounds(self) -> list[tuple[str, float | datetime, Callable[..., Any]]]:
        """What each bound is called, the bound, and what a value beyond it is."""
        bounds = (
            ("at least", self.low, pc.less),
            ("at most", self.high, pc.greater),
            ("above", self.above, pc.less_equal),
            ("below", self.below, pc.greater_equal),
        )
        return [(words, bound, beyond) for words, bound, beyond in bounds if bound is not None]


@dataclass(frozen=True, kw_only=True)
class Finite(Expectation):
    """No number is infinite."""

    rule: Literal["finite"] = "finite"
    column: str
    wants: ClassVar[str] = "number"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def accepts(self, kind: pa.DataType) -> bool:
        return is_number(kind)

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        return _values(self.column, "finite", pc.is_inf)


@dataclass(frozen=True, kw_only=True)
class OneOf(Expectation):
    """Every value is among `values`."""

    rule: Literal["one_of"] = "one_of"
    column: str
    values: tuple[str, ...] | tuple[float, ...]
    way_out: ClassVar[str] = ""
    wants: ClassVar[str] = "number, category or boolean"

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"the set of {self.column} is empty; nothing could pass")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def accepts(self, kind: pa.DataType) -> bool:
        if isinstance(self.values[0], str):
            return is_category(kind)
        return is_number(kind) or bool(pa.types.is_boolean(kind))

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        texts = isinstance(self.values[0], str)
        allowed = pa.array(self.values, pa.string() if texts else pa.float64())

        def outside(column: Any) -> Any:
            values = column.cast(pa.string()) if texts else as_floats(column)
            return pc.and_not(pc.invert(pc.is_in(values, allowed)), is_missing(column))

        *rest, last = (each if isinstance(each, str) else _shown(each) for each in self.values)
        rule = f"{', '.join(rest)} or {last}" if rest else last
        return _values(self.column, rule, outside, self.way_out)


@dataclass(frozen=True, kw_only=True)
class Matches(Expectation):
    """Every text matches the regular expression `pattern` (RE2) from its start to its end."""

    rule: Literal["matches"] = "matches"
    column: str
    pattern: str
    wants: ClassVar[str] = "category"

    def __post_init__(self) -> None:
        try:  # RE2, which does the matching, also refuses what needs backtracking
            pc.match_substring_regex(pa.array([""]), self._anchored)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.column}: '{self.pattern}' is no pattern: {error}") from error

    @property
    def _anchored(self) -> str:
        return f"^(?:{self.pattern})$"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def accepts(self, kind: pa.DataType) -> bool:
        return is_category(kind)

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        def unlike(column: Any) -> Any:
            return pc.invert(pc.match_substring_regex(column.cast(pa.string()), self._anchored))

        return _values(self.column, f"matches {self.pattern}", unlike)


@dataclass(frozen=True, kw_only=True)
class Function(Expectation):
    """A Python function of one value that says whether it is good; declared in Python alone.

    It runs once a value, some hundred times slower than the other rules.
    """

    rule: Literal["function"] = "function"
    column: str
    function: Callable[[Any], bool]
    name: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        def bad(column: Any) -> Any:
            return pa.array(
                [value is not None and not self.function(value) for value in column.to_pylist()],
                pa.bool_(),
            )

        return _values(self.column, self.name, bad)


@dataclass(frozen=True)
class _All:
    checkers: list[RowChecker]

    def feed(self, batch: pa.RecordBatch) -> None:
        for checker in self.checkers:
            checker.feed(batch)

    def findings(self, num_rows: int) -> Iterator[Finding]:
        for checker in self.checkers:
            yield from checker.findings(num_rows)


def _values(column: str, rule: str, broken: Callable[[Any], Any], way_out: str = "") -> RowChecker:
    return RowChecker(column, rule, lambda batch: broken(batch[column]), (column,), way_out)


def _beyond(compare: Callable[..., Any], bound: float | datetime) -> Callable[[Any], Any]:
    def beyond(column: Any) -> Any:
        if not isinstance(bound, datetime):
            return compare(as_floats(column), bound)
        try:
            return compare(column, pa.scalar(bound, column.type))
        except pa.ArrowInvalid:  # nanoseconds reach from 1677 to 2262, microseconds everywhere
            kind = pa.timestamp("us", column.type.tz)
            return compare(column.cast(kind, safe=False), pa.scalar(bound, kind))

    return beyond


def _shown(bound: float | datetime) -> str:
    return bound.isoformat() if isinstance(bound, datetime) else f"{bound:.15g}"
