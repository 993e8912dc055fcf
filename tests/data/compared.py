"""Tables held against each other, for tests."""

from __future__ import annotations

import pyarrow as pa

from raymlops.data import open_source
from raymlops.data.distributions import LocalRows
from raymlops.data.drift import DriftPolicy
from raymlops.data.table_drift import TableDrift

POLICY = DriftPolicy()


def rows(table: pa.Table) -> LocalRows:
    return LocalRows(open_source(table))


def drifted(found: TableDrift) -> list[str]:
    return [each.verdict.feature for each in found.drifted]
