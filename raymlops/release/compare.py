"""Scores champion and challenger on the same labelled rows."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa

from raymlops.data import TableSchema, between, read_columns
from raymlops.errors import ReleaseError
from raymlops.models import PROBABILITY, Bundle
from raymlops.monitor import paired_difference
from raymlops.release.gate import Comparison
from raymlops.train import judge


def compare(
    champion: Bundle,
    challenger: Bundle,
    table: pa.Table,
    schema: TableSchema,
    *,
    start: datetime,
    end: datetime,
) -> Comparison:
    """Both bundles on the rows of [start, end); the interval takes each UTC day as one cluster.

    Raises:
        ReleaseError: there are none.
    """
    rows = between(table, schema.event_time, start, end)
    if not rows.num_rows:
        raise ReleaseError(
            f"no labelled rows from {start:%Y-%m-%d} to {end:%Y-%m-%d} to compare them on"
        )
    columns = read_columns(rows, schema.features)
    labels = rows[schema.target].to_numpy()
    old, new = champion.predict(columns)[PROBABILITY], challenger.predict(columns)[PROBABILITY]
    days = rows[schema.event_time].to_numpy().astype("datetime64[D]").astype(np.int64)
    estimate = paired_difference(labels, old, new, days)
    old_quality, new_quality = judge(old, labels), judge(new, labels)
    return Comparison(
        start=start,
        end=end,
        num_rows=rows.num_rows,
        champion_log_loss=old_quality.log_loss,
        challenger_log_loss=new_quality.log_loss,
        champion_roc_auc=old_quality.roc_auc,
        challenger_roc_auc=new_quality.roc_auc,
        difference=estimate.value,
        low=estimate.low,
        high=estimate.high,
    )
