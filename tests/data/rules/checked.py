"""A table, and what a rule finds in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from raymlops.data.rules import Expectation, Finding

NAN = float("nan")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)

TABLE = pa.table(
    {
        "hour": pa.array([5.0, 23.0, None, 24.0, float("inf")]),
        "carrier": ["AA", "B6", None, "Delta", "AA"],
        "day": [1, 2, 2, 1, 5],
        "leaves": pa.array([MIDNIGHT, NOON, NOON, MIDNIGHT, None], pa.timestamp("us", tz="UTC")),
        "lands": pa.array([NOON, NOON, MIDNIGHT, None, NOON], pa.timestamp("us", tz="UTC")),
    }
)


class Earlier:
    """One version of a dataset, in memory."""

    def __init__(self, table: pa.Table | None) -> None:
        self.table = table

    def reference(self, version: int | None) -> tuple[str, Earlier] | None:
        return None if self.table is None else (f"version {version or 1}", self)

    @property
    def schema(self) -> pa.Schema:
        assert self.table is not None
        return self.table.schema

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        assert self.table is not None
        yield from self.table.select(columns or self.schema.names).to_batches(max_chunksize=7_777)


def findings(
    rule: Expectation, table: pa.Table, *, chunk: int = 2, earlier: pa.Table | None = None
) -> list[Finding]:
    checker = rule.checker(table.schema, Earlier(earlier))
    for batch in table.to_batches(max_chunksize=chunk):
        checker.feed(batch)
    return list(checker.findings(table.num_rows))
