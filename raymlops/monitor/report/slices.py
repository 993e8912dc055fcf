"""How a model does for parts of its traffic, as tables: slices of features, and its classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raymlops.ledger import Ledger, SlicePerformance
from raymlops.monitor.judging import WindowReport
from raymlops.monitor.losses import HELD_TO
from raymlops.monitor.windows import Window

MAX_SLICES = 20

SLICE_MEASURES = {
    "log_loss": {"log_loss": "Log loss", "accuracy": "Accuracy", "roc_auc": "AUC"},
    "capped_rmse": {"capped_rmse": "RMSE, wild errors capped", "rmse": "RMSE", "bias": "Bias"},
    "rmse": {"rmse": "RMSE", "mae": "Mean absolute error", "bias": "Bias"},
    "ndcg_loss": {"ndcg_loss": "NDCG loss", "ndcg_at_10": "NDCG@10", "map_at_10": "MAP@10"},
}
"""What is told beside each loss, and how it is called."""

_CLASS_MEASURES = ("recall", "precision", "f1")
_SAID = "said "


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    feature: str
    part: str
    answered_by: str
    num_rows: int
    loss: str
    measures: tuple[SlicePerformance | None, ...]


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """What became of a class; `taken_for` are the shares of other classes that were said of it."""

    name: str
    answered_by: str
    num_rows: int
    measures: tuple[SlicePerformance | None, ...]
    taken_for: tuple[tuple[str, float], ...]


def worst_slices(ledger: Ledger, model: str, latest: WindowReport) -> list[SlicePerformance]:
    """What decides of each, first that which is high for certain: by the lower end of its
    interval."""
    found = [row for row in _slices_in(ledger, model, latest.window) if not math.isnan(row.low)]
    losses: dict[tuple[str, str, str, str], SlicePerformance] = {}
    for metric in HELD_TO:
        for row in found:
            if row.metric == metric:
                losses.setdefault(_identity(row), row)
    return sorted(losses.values(), key=lambda row: -row.low)


def slice_rows(ledger: Ledger, model: str, latest: WindowReport) -> list[SliceRow]:
    """The slices of the last window in which the model does worst, with all their intervals; where
    versions are held to different losses, those of one of them."""
    found = {(*_identity(row), row.metric): row for row in _slices_in(ledger, model, latest.window)}
    ranked = worst_slices(ledger, model, latest)
    return [
        SliceRow(
            feature=worst.feature,
            part=worst.part,
            answered_by=f"{worst.version} {worst.arm}",
            num_rows=worst.num_rows,
            loss=worst.metric,
            measures=tuple(
                found.get((*_identity(worst), metric)) for metric in SLICE_MEASURES[worst.metric]
            ),
        )
        for worst in [each for each in ranked if each.metric == ranked[0].metric][:MAX_SLICES]
    ]


def _identity(row: SlicePerformance) -> tuple[str, str, str, str]:
    return row.version, row.arm, row.feature, row.part


def class_rows(ledger: Ledger, model: str, latest: WindowReport) -> list[ClassRow]:
    """Of a model that tells classes apart, what each came to in the last window."""
    found: dict[tuple[str, str, str], dict[str, SlicePerformance]] = {}
    for row in _slices_in(ledger, model, latest.window):
        found.setdefault((row.version, row.arm, row.part), {})[row.metric] = row
    return [
        ClassRow(
            name=name,
            answered_by=f"{version} {arm}",
            num_rows=of["recall"].num_rows,
            measures=tuple(of.get(metric) for metric in _CLASS_MEASURES),
            taken_for=tuple(
                (metric.removeprefix(_SAID), row.value)
                for metric, row in of.items()
                if metric.startswith(_SAID)
            ),
        )
        for (version, arm, name), of in found.items()
        if "recall" in of
    ]


def _slices_in(ledger: Ledger, model: str, window: Window) -> list[SlicePerformance]:
    found = ledger.observations.slices(model, after=window.start, until=window.end)
    return [
        row for row in found if (row.window_start, row.window_end) == (window.start, window.end)
    ]
