"""Rule: how two columns of a row relate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.features import as_floats
from raymlops.data.rules.base import (
    Checker,
    Expectation,
    Finding,
    References,
    RowChecker,
    is_missing,
    is_number,
)

Operator = Literal["<", "<=", "==", "!=", ">=", ">"]

_COMPARE = {
    "<": pc.less,
    "<=": pc.less_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    ">=": pc.greater_equal,
    ">": pc.greater,
}

_ALL_WHOLE = pa.decimal128(20)
"""What holds the whole numbers of int64 and of uint64."""


@dataclass(frozen=True, kw_only=True)
class Compare(Expectation):
    """`left` `op` `right` in every row, e.g. arrival >= departure; rows that miss either pass."""

    rule: Literal["compare"] = "compare"
    left: str
    op: Operator
    right: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.left, self.right)

    @property
    def shown(self) -> str:
        return f"{self.left} {self.op} {self.right}"

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        left, right = (schema.field(name).type for name in self.reads)
        try:
            self._holds(pa.nulls(1, left), pa.nulls(1, right))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return _Incomparable(self, left, right)

        def broken(batch: pa.RecordBatch) -> Any:
            left, right = batch[self.left], batch[self.right]
            missing = pc.or_(is_missing(left), is_missing(right))
            return pc.and_not(pc.invert(self._holds(left, right)), missing)

        return RowChecker(", ".join(self.reads), self.shown, broken, self.reads)

    def _holds(self, left: Any, right: Any) -> Any:
        return _COMPARE[self.op](*_comparable(left, right))


@dataclass(frozen=True)
class _Incomparable:
    """Columns whose types have no order together."""

    rule: Compare
    left: pa.DataType
    right: pa.DataType

    def feed(self, batch: pa.RecordBatch) -> None:
        """Every batch has the types of the schema."""

    def findings(self, num_rows: int) -> Iterator[Finding]:
        yield Finding(
            column=", ".join(self.rule.reads),
            rule=self.rule.shown,
            num_broken=num_rows or 1,
            num_rows=num_rows,
            examples=(f"they are {self.left} and {self.right}",),
            way_out="name two numbers, two texts, or two times that agree in having a zone",
        )


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Both columns, as float64 where they are numbers and not both whole, and as decimals where no
    whole type holds both."""
    kinds = (left.type, right.type)
    if all(map(is_number, kinds)) and any(map(pa.types.is_floating, kinds)):
        return as_floats(left), as_floats(right)
    if pa.uint64() in kinds and any(map(pa.types.is_signed_integer, kinds)):
        return left.cast(_ALL_WHOLE), right.cast(_ALL_WHOLE)
    return left, right
