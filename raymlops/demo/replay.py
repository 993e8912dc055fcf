"""The rest of the year as traffic: one request an airport and hour, labels a day later."""

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
    """One request: an airport's departures of an hour, scored as the hour begins."""

    request_id: str
    key: str
    event_time: datetime
    columns: Columns
    labels: NDArray[np.int8]


def calls_by_day(
    table: pa.Table, schema: TableSchema, *, start: datetime, end: datetime, group: str
) -> Iterator[tuple[datetime, list[Call]]]:
    """(day, its calls in order) for every UTC day of event time in [start, end).

    The rows of one hour and one value of `group` make a call. Its key is made of the two, so that
    every replay splits traffic alike; its id is new each time.
    """
    day = start
    while day < end:
        rows = between(table, schema.event_time, day, day + timedelta(days=1))
        yield day, _calls(rows, schema, group)
        day += timedelta(days=1)


def _calls(rows: pa.Table, schema: TableSchema, group: str) -> list[Call]:
    if rows.num_rows == 0:
        return []
    columns = read_columns(rows, schema.features)
    labels = rows[schema.target].to_numpy().astype(np.int8)
    hours = rows[schema.event_time].to_numpy().astype("datetime64[h]")
    groups = np.asarray(rows[group].to_pylist(), dtype=object)
    keys = sorted(set(zip(hours.tolist(), groups.tolist(), strict=True)))
    calls = []
    for hour, name in keys:
        chosen = np.flatnonzero((hours == np.datetime64(hour, "h")) & (groups == name))
        calls.append(
            Call(
                request_id=str(uuid.uuid4()),
                key=f"{name} {hour:%Y-%m-%dT%H}",
                event_time=hour.replace(tzinfo=UTC),
                columns=take(columns, chosen),
                labels=labels[chosen],
            )
        )
    return calls
