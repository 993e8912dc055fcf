"""Rule: how two columns of a row relate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.rules.base import Checker, Expectation, References, RowChecker

Operator = Literal["<", "<=", "==", "!=", ">=", ">"]

_COMPARE = {
    "<": pc.less,
    "<=": pc.less_equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    ">=": pc.greater_equal,
    ">": pc.greater,
}


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

    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        def broken(batch: pa.RecordBatch) -> Any:
            return pc.invert(_COMPARE[self.op](batch[self.left], batch[self.right]))

        return RowChecker(
            f"{self.left}, {self.right}",
            f"{self.left} {self.op} {self.right}",
            broken,
            self.reads,
        )
