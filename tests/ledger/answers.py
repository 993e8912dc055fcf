"""What replicas and callers tell a ledger of two rows of flights."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np

from raymlops.ledger import Labels, Pane, Prediction

START = datetime(2013, 4, 1, tzinfo=UTC)
FIRST_DAY = date(2013, 4, 1)


def pane(num_rows: int = 2, day: date = FIRST_DAY) -> Pane:
    return Pane(
        model="flights",
        version="1.0.0",
        arm="champion",
        day=day,
        num_rows=num_rows,
        num_failed=1,
        cells=np.array([num_rows, 0, 1]),
        latency=(num_rows, 0),
    )


def prediction(request_id: str, hours: int = 0) -> Prediction:
    return Prediction(
        request_id=request_id,
        model="flights",
        version="1.0.0",
        arm="champion",
        scores=np.array([0.25, 0.75], dtype="<f4").tobytes(),
        num_rows=2,
        served_at=START,
        event_time=START + timedelta(hours=hours),
        replica="r1",
    )


def labels(request_id: str, *values: int) -> Labels:
    return Labels(
        request_id=request_id,
        model="flights",
        labels=np.array(values, dtype=np.int8).tobytes(),
        at=START,
    )
