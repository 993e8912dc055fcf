"""Rule: a column never falls from one row to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.rules.base import (
    NUM_EXAMPLES,
    Expectation,
    Finding,
    References,
    example,
    is_missing,
    is_number,
    ordered,
)


@dataclass(frozen=True, kw_only=True)
class Monotone(Expectation):
    """Times or numbers do not fall from row to row; with `strictly` they rise. Missing values are
    passed over. The order of rows is that of the files by name."""

    rule: Literal["monotone"] = "monotone"
    column: str
    strictly: bool = False
    wants: ClassVar[str] = "number or time"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def accepts(self, kind: pa.DataType) -> bool:
        is_time = pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
        return is_number(kind) or bool(is_time)

    def checker(self, schema: pa.Schema, references: References | None) -> _MonotoneChecker:
        return _MonotoneChecker(self)


@dataclass
class _MonotoneChecker:
    rule: Monotone
    last: Any = None  # the last known value of the batches before
    num_broken: int = 0
    examples: list[str] = field(default_factory=list)

    def feed(self, batch: pa.RecordBatch) -> None:
        column = batch[self.rule.column]
        values = ordered(column.filter(pc.invert(is_missing(column))))
        if self.last is not None:
            values = pa.concat_arrays([pa.array([self.last], values.type), values])
        if len(values) < 2:
            self.last = values[0] if len(values) else None
            return
        before, after = values[:-1], values[1:]
        falls = (pc.less_equal if self.rule.strictly else pc.less)(after, before)
        self.num_broken += pc.sum(falls).as_py() or 0
        for row in (
            pc.indices_nonzero(falls).slice(0, NUM_EXAMPLES - len(self.examples)).to_pylist()
        ):
            self.examples.append(f"{example(after[row])} after {example(before[row])}")
        self.last = values[-1]

    def findings(self, num_rows: int) -> Iterator[Finding]:
        yield Finding(
            column=self.rule.column,
            rule="rises from row to row" if self.rule.strictly else "never falls from row to row",
            num_broken=self.num_broken,
            num_rows=num_rows,
            examples=tuple(self.examples),
        )
