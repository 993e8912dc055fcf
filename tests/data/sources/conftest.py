from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from raymlops.data import between
from raymlops.demo.flights import load_flights


@pytest.fixture(scope="package")
def week() -> pa.Table:
    """The flights of the first week, with the types every format can keep."""
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 8, tzinfo=UTC)
    table = between(load_flights(), "scheduled_at", start, end).combine_chunks()
    table = table.select(["scheduled_at", "carrier", "origin", "distance", "temp", "late"])
    strings = [
        pa.field(field.name, pa.string() if pa.types.is_large_string(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(strings)).set_column(5, "late", table["late"].cast(pa.int64()))
