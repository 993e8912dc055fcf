"""Rule: a column holds values of one type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raymlops.data.rules.base import Expectation, Finding, References, is_category, is_number

LABELS = (
    "a label is 0/1 or true/false: map it before, name its classes in data.classes, or say that it "
    "is a number by data.task: regression"
)

_FAMILIES: Mapping[str, Callable[[pa.DataType], bool]] = {
    "number": is_number,
    "category": is_category,
    "integer": pa.types.is_integer,
    "float": pa.types.is_floating,
    "boolean": pa.types.is_boolean,
    "time": pa.types.is_temporal,
    "0/1": lambda kind: bool(pa.types.is_boolean(kind)) or is_number(kind),
    "timestamp with a zone": lambda kind: bool(pa.types.is_timestamp(kind)) and kind.tz is not None,
}

_FEATURES = ("number", "category")
"""Of which a column may hold nothing, when its type is null: how much may be missing is a rule of
its own."""

# Of the types that a table must have to be trained from, however it came to be.
_WAYS_OUT: Mapping[str, str] = {
    "number": "integers and floats are numbers: convert it before, e.g. by astype('float64')",
    "category": "texts are categories: convert it before, e.g. by astype('string')",
    "0/1": LABELS,
    "timestamp with a zone": "write times with their zone, e.g. 2024-01-01T06:00:00Z",
}

_FROM_TIMES = (
    "a time is no number: take one from it before, e.g. its hour, the days since another, or the "
    "seconds of a duration"
)


@dataclass(frozen=True, kw_only=True)
class Typed(Expectation):
    """`type` is a family (number, integer, float, category, boolean, 0/1, time, timestamp with a
    zone) or Arrow's own name of a type, such as int64, string or timestamp[us, tz=UTC]."""

    rule: Literal["type"] = "type"
    column: str
    type: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def checker(self, schema: pa.Schema, references: References | None) -> _TypeChecker:
        found = schema.field(self.column).type
        if self.type in _FEATURES and pa.types.is_null(found):
            return _TypeChecker(self, found, fits=True)
        fits = _FAMILIES.get(self.type, lambda kind: str(kind) == self.type)
        return _TypeChecker(self, found, bool(fits(found)))


@dataclass(frozen=True)
class _TypeChecker:
    rule: Typed
    found: pa.DataType
    fits: bool

    def feed(self, batch: pa.RecordBatch) -> None:
        """Every batch has the type of the schema."""

    def findings(self, num_rows: int) -> Iterator[Finding]:
        yield Finding(
            column=self.rule.column,
            rule=f"type {self.rule.type}",
            num_broken=0 if self.fits else num_rows or 1,
            num_rows=num_rows,
            examples=() if self.fits else (f"it is {self.found}",),
            way_out="" if self.fits else self._way_out,
        )

    @property
    def _way_out(self) -> str:
        if self.rule.type == "number" and pa.types.is_temporal(self.found):
            return _FROM_TIMES  # which neither pandas nor Arrow casts to float64
        return _WAYS_OUT.get(self.rule.type, "")
