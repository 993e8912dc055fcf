"""Rule: how many rows a table has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raymlops.data.rules.base import Expectation, Finding, References


@dataclass(frozen=True, kw_only=True)
class RowCount(Expectation):
    """There are `min` to `max` rows; None is unbounded."""

    rule: Literal["rows"] = "rows"
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ValueError("a rule about rows needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"rows: min {self.min} is above max {self.max}")

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def checker(self, schema: pa.Schema, references: References | None) -> _RowCountChecker:
        return _RowCountChecker(self)


@dataclass(frozen=True)
class _RowCountChecker:
    rule: RowCount

    def feed(self, batch: pa.RecordBatch) -> None:
        """Rows are counted for all rules together."""

    def findings(self, num_rows: int) -> Iterator[Finding]:
        if self.rule.min is not None:
            yield self._finding(
                f"at least {self.rule.min} rows", self.rule.min - num_rows, num_rows
            )
        if self.rule.max is not None:
            yield self._finding(f"at most {self.rule.max} rows", num_rows - self.rule.max, num_rows)

    @staticmethod
    def _finding(rule: str, num_beyond: int, num_rows: int) -> Finding:
        return Finding(column="*", rule=rule, num_broken=max(0, num_beyond), num_rows=num_rows)
