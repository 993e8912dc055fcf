"""Rule: how many values of a column may be missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.rules.base import Expectation, Finding, References, is_missing

_WAY_OUT = "leave these rows out; a feature may have more of them by its max_missing"


@dataclass(frozen=True, kw_only=True)
class MissingShare(Expectation):
    """At most the share `max_share` of the values is null or NaN."""

    rule: Literal["missing"] = "missing"
    column: str
    max_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_share <= 1.0:
            raise ValueError(f"{self.column}: max_share is {self.max_share}, not within 0 and 1")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def checker(self, schema: pa.Schema, references: References | None) -> _MissingChecker:
        return _MissingChecker(self)


@dataclass
class _MissingChecker:
    rule: MissingShare
    num_missing: int = 0

    def feed(self, batch: pa.RecordBatch) -> None:
        self.num_missing += pc.sum(is_missing(batch[self.rule.column])).as_py() or 0

    def findings(self, num_rows: int) -> Iterator[Finding]:
        passed = self.num_missing / max(1, num_rows) <= self.rule.max_share
        yield Finding(
            column=self.rule.column,
            rule=f"missing share at most {self.rule.max_share:g}",
            num_broken=0 if passed else self.num_missing,
            num_rows=num_rows,
            way_out="" if passed else _WAY_OUT,
        )
