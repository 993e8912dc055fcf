"""The weather of New York's airports in 2013, of which the temperature is to be told."""

from __future__ import annotations

from functools import cache

import pyarrow as pa

from raymlops.data import Feature, TableSchema
from raymlops.demo.flights import load_flights

SCHEMA = TableSchema(
    dataset="weather",
    target="temp",
    event_time="scheduled_at",
    task="regression",
    features=(
        Feature(name="origin", kind="category"),
        Feature(name="hour", kind="number"),
        Feature(name="dewp", kind="number"),
        Feature(name="humid", kind="number"),
        Feature(name="pressure", kind="number", max_missing=0.3),
    ),
)


@cache
def weather(months: tuple[str, str] = ("2013-01", "2013-03")) -> pa.Table:
    """An observation for each departure from the first of `months` to before the second."""
    frame = load_flights().to_pandas()
    first, end = (f"{month}-01" for month in months)
    frame = frame[(frame["scheduled_at"] >= first) & (frame["scheduled_at"] < end)]
    frame = frame.drop_duplicates(["origin", "scheduled_at"]).dropna(subset=["temp", "dewp"])
    table = pa.Table.from_pandas(frame[list(SCHEMA.columns)], preserve_index=False)
    return table.replace_schema_metadata()
