"""Scores champion and challenger on the same labelled rows."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import (
    Columns,
    TableSchema,
    between,
    class_numbers,
    read_classes,
    read_columns,
)
from raymlops.data.classes import class_losses
from raymlops.errors import ReleaseError
from raymlops.models import Bundle
from raymlops.monitor import log_losses, loss_difference
from raymlops.release.gate import Comparison
from raymlops.train import Quality, judge, judge_classes


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
    columns, target = read_columns(rows, schema.features), rows[schema.target]
    days = rows[schema.event_time].to_numpy().astype("datetime64[D]").astype(np.int64)
    old_quality, old = _judged(champion, columns, target)
    new_quality, new = _judged(challenger, columns, target)
    estimate = loss_difference(old, new, days)
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


def _judged(
    bundle: Bundle, columns: Columns, target: pa.ChunkedArray
) -> tuple[Quality, NDArray[np.float64]]:
    """How good the bundle is, and its log loss on each row."""
    said, classes = bundle.predict(columns), bundle.postprocessing.classes
    scores = said[bundle.postprocessing.score]
    if classes:
        came = class_numbers(
            read_classes(target, classes[0], name=bundle.postprocessing.label), classes
        )
        return judge_classes(scores, came), class_losses(scores, came)
    labels = target.to_numpy()
    return judge(scores, labels), log_losses(scores, labels)
