"""Flights of a week, as a table is described and in some forms that it comes in."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data import Feature, Source, TableSchema, open_source

SCHEMA = TableSchema(
    dataset="flights",
    target="late",
    event_time="scheduled_at",
    features=(
        Feature(name="carrier", kind="category"),
        Feature(name="temp", kind="number", low=-60, high=130, max_missing=0.1),
    ),
)


def a_folder(table: pa.Table, folder: Path) -> Source:
    for part in range(3):
        start = part * 2000
        rows = table.slice(start, 2000) if part < 2 else table.slice(start)
        (folder / "parts" / "deep").mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, folder / "parts" / "deep" / f"{part}.parquet")
    (folder / "parts" / "_SUCCESS").touch()
    return open_source(folder / "parts")


def sorted_rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=str)
