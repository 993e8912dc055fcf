"""Scores champion and challenger on the same labelled rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymlops.data import Columns, TableSchema, between, read_columns
from raymlops.errors import ReleaseError
from raymlops.models import Bundle
from raymlops.monitor import (
    FarCounts,
    RowLoss,
    far_of_both,
    held_to,
    paired_difference,
    row_loss,
)
from raymlops.release.gate import Comparison
from raymlops.train import Quality
from raymlops.train.tabular.targets import target_said


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

    Rows are left out, and counted, of which one of both says no number.

    Raises:
        ReleaseError: there are none, or none is left.
    """
    rows = between(table, schema.event_time, start, end)
    if not rows.num_rows:
        raise ReleaseError(
            f"no labelled rows from {start:%Y-%m-%d} to {end:%Y-%m-%d} to compare them on"
        )
    columns, target = read_columns(rows, schema.features), rows[schema.target]
    days = rows[schema.event_time].to_numpy().astype("datetime64[D]").astype(np.int64)
    old_scores, new_scores = _scores(champion, columns), _scores(challenger, columns)
    old_known, new_known = _are_numbers(old_scores), _are_numbers(new_scores)
    both = old_known & new_known
    if not both.any():
        raise ReleaseError(
            f"on none of {rows.num_rows:,} labelled rows do champion and challenger both say a "
            "number, so nothing compares them"
        )
    labels = target.filter(pa.array(both))
    loss = row_loss(is_regression=schema.task == "regression")
    old_quality, old = _judged(champion, old_scores[both], labels, loss)
    new_quality, new = _judged(challenger, new_scores[both], labels, loss)
    far = FarCounts()
    if schema.task == "regression":
        profile = held_to(champion.profile, challenger.profile)
        came = labels.cast(pa.float64()).to_numpy()
        far = far_of_both(old_scores[both], new_scores[both], came, profile)
    old, new = loss.capped(old, new, far.cap)
    estimate = paired_difference(loss, old, new, days[both])
    return Comparison(
        start=start,
        end=end,
        num_rows=int(both.sum()),
        champion_unscored=int((~old_known).sum()),
        challenger_unscored=int((~new_known).sum()),
        champion=old_quality.to_dict() | {loss.decides: loss.level(float(old.mean()))},
        challenger=new_quality.to_dict() | {loss.decides: loss.level(float(new.mean()))},
        loss=loss.metric,
        difference=estimate.value,
        low=estimate.low,
        high=estimate.high,
        error_cap=far.cap,
        wild_labels=far.wild,
        champion_absurd=far.champion_absurd,
        challenger_absurd=far.challenger_absurd,
    )


def _scores(bundle: Bundle, columns: Columns) -> NDArray[Any]:
    return bundle.predict(columns)[bundle.postprocessing.score]


def _are_numbers(scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Of which rows a score is said, and no infinite one, [rows]."""
    known: NDArray[np.bool_] = np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    return known


def _judged(
    bundle: Bundle, scores: NDArray[Any], column: pa.ChunkedArray, loss: RowLoss
) -> tuple[Quality, NDArray[np.float64]]:
    """How good its `scores` are, and what each row costs."""
    target = target_said(bundle.postprocessing)
    labels = target.read(column, name=bundle.postprocessing.label)
    return target.judge(scores, labels), loss.rows(scores, labels)
