"""The rest of the year as traffic: one request an hour, with all departures of that hour."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Columns, TableSchema, between, read_columns, take


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: the departures of an hour, scored as the hour begins."""

    request_id: str
    key: str
    event_time: datetime
    columns: Columns
    labels: NDArray[np.int8]


def calls_by_day(
    table: pa.Table, schema: TableSchema, *, start: datetime, end: datetime
) -> Iterator[tuple[datetime, list[Call]]]:
    """(day, its calls in order) for every UTC day of event time in [start, end).

    A call's key is its hour, so that every replay splits traffic alike; its id is new each time.
    """
    day = start
    while day < end:
        rows = between(table, schema.event_time, day, day + timedelta(days=1))
        yield day, _calls(rows.sort_by(schema.event_time), schema)
        day += timedelta(days=1)


def _calls(rows: pa.Table, schema: TableSchema) -> list[Call]:
    columns = read_columns(rows, schema.features)
    labels = rows[schema.target].to_numpy().astype(np.int8)
    hours = rows[schema.event_time].to_numpy().astype("datetime64[h]")
    starts, firsts = np.unique(hours, return_index=True)
    ends = [*firsts[1:], len(hours)]
    return [
        Call(
            request_id=str(uuid.uuid4()),
            key=str(hour),
            event_time=hour.astype(datetime).replace(tzinfo=UTC),
            columns=take(columns, slice(first, end)),
            labels=labels[first:end],
        )
        for hour, first, end in zip(starts, firsts, ends, strict=True)
    ]
