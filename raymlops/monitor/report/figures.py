"""The figures of a model's report: what the ledger holds, as curves with a caption each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from raymlops.ledger import Ledger, ModelVersion, Pane, Performance, Run
from raymlops.monitor import plots
from raymlops.monitor.judging import ALL, WindowReport
from raymlops.monitor.losses import LOSSES, RMSE, Loss
from raymlops.monitor.report.traffic import traffic_panels

CHAMPION = "champion"
_MAX_HEAT_COLUMNS = 14
_MAX_RUNS = 10


@dataclass(frozen=True, kw_only=True)
class Figure:
    title: str
    svg: str
    caption: str


def performance_figure(
    reports: Sequence[WindowReport], hues: Mapping[str, int], marks: tuple[plots.Mark, ...]
) -> Figure | None:
    rows = [row for report in reports for row in report.performance if not math.isnan(row.value)]
    losses = [row.metric for row in rows if row.metric in LOSSES]
    if not losses:  # no label is known
        return None
    loss = LOSSES[losses[-1]]  # the newest window's
    metrics = {row.metric for row in rows}
    title, decisive = loss.heading, _decisive(rows, loss)
    if loss.decides in metrics - {loss.metric}:
        title += ", wild errors capped"
    seconds = _SECOND[loss.metric]
    second = next((name for name in seconds if name in metrics), next(iter(seconds)))
    baseline = [row for row in _decisive(rows, loss, "baseline_") if row.version == ALL]
    constant = plots.Curve(
        label=loss.guess, x=_middles(baseline), y=[row.value for row in baseline]
    )
    panels = (
        plots.Panel(
            title=f"{title}, lower is better",
            curves=(constant, *_arm_curves(decisive, hues)),
            marks=marks,
        ),
        plots.Panel(
            title=_SECOND[loss.metric][second],
            curves=_arm_curves([row for row in rows if row.metric == second], hues),
            marks=marks,
            has_legend=False,
        ),
    )
    return Figure(
        title="Performance",
        svg=plots.timeline("performance", panels, summary=f"{loss.heading} by window"),
        caption="Each point is one window of event time with its 95 % interval, clustered by day. "
        f"The dashed line is what {loss.naive} would cost. Hollow points are arms on trial. "
        "Dotted verticals: a release began, or the champion changed.",
    )


_SECOND = {
    "log_loss": {
        "roc_auc": "Area under the ROC curve, higher is better",
        "accuracy": "Accuracy, higher is better",  # of several classes there is no one curve
    },
    "rmse": {"bias": "Bias, predicted less actual"},
    "ndcg_loss": {"map_at_10": "Mean average precision of the first 10, higher is better"},
}
"""What is drawn below each loss: the first that there is."""


def _decisive(rows: Sequence[Performance], loss: Loss, prefix: str = "") -> list[Performance]:
    """The loss of each arm and window, or its `baseline_`: with wild errors capped, where it is
    known from where on they are wild."""
    plain, capped = f"{prefix}{loss.metric}", f"{prefix}{loss.decides}"
    known = {_arm_and_window(row) for row in rows if row.metric == capped}
    return [
        row
        for row in rows
        if row.metric == capped or (row.metric == plain and _arm_and_window(row) not in known)
    ]


def _arm_and_window(row: Performance) -> tuple[str, str, datetime, datetime]:
    return row.version, row.arm, row.window_start, row.window_end


def _arm_curves(rows: Sequence[Performance], hues: Mapping[str, int]) -> tuple[plots.Curve, ...]:
    """Of rows of one metric."""
    arms: dict[tuple[str, str], list[Performance]] = {}
    for row in rows:
        if row.version != ALL:
            arms.setdefault((row.version, row.arm), []).append(row)
    return tuple(
        plots.Curve(
            label=version if arm == CHAMPION else f"{version} {arm}",
            x=_middles(group),
            y=[row.value for row in group],
            low=[row.low for row in group],
            high=[row.high for row in group],
            hue=hues.get(version, 0),
            hollow=arm != CHAMPION,
        )
        for (version, arm), group in arms.items()
    )


def _middles(rows: Sequence[Performance]) -> list[datetime]:
    return [row.window_start + (row.window_end - row.window_start) / 2 for row in rows]


def traffic_figure(panes: Sequence[Pane], hues: Mapping[str, int]) -> Figure | None:
    if not panes:
        return None
    return Figure(
        title="Traffic",
        svg=plots.timeline("traffic", traffic_panels(panes, hues), summary="Requests by day"),
        caption=f"{sum(pane.num_rows for pane in panes):,} rows in "
        f"{sum(sum(pane.latency) for pane in panes):,} requests answered; "
        f"{sum(pane.num_failed for pane in panes):,} failed.",
    )


def drift_figure(reports: Sequence[WindowReport]) -> Figure | None:
    judged = [report for report in reports if report.drift]
    if not judged:
        return None
    shown = judged[-_MAX_HEAT_COLUMNS:]
    is_one_year = len({report.window.start.year for report in shown}) == 1
    columns = [_heat_column(report, "%-d %b" if is_one_year else "%-d %b\n%Y") for report in shown]
    return Figure(
        title="Drift of the inputs and of the score",
        svg=plots.heat_map("drift", columns, summary="Drift effect by window, feature"),
        caption="Distance of each window from what its busiest version was trained on: 0 is "
        "alike, 1 is disjoint (largest gap between distribution functions for numbers, total "
        "variation for categories, difference of shares where values are missing). A cell is "
        "shaded where the distance is both significant after correction for all features and "
        "large enough to matter."
        + (f" The last {_MAX_HEAT_COLUMNS} windows." if len(judged) > _MAX_HEAT_COLUMNS else ""),
    )


def _heat_column(report: WindowReport, day: str) -> plots.HeatColumn:
    """What was found of the version that answered most in a window."""
    version = max(report.drift, key=lambda row: row.num_rows).version
    rows = [row for row in report.drift if row.version == version]
    return plots.HeatColumn(
        label=f"{report.window.start:{day}}\n{version}",
        effects={row.feature: row.effect for row in rows},
        drifted={row.feature for row in rows if row.drifted},
    )


def latency_figure(counts: Sequence[int]) -> Figure | None:
    if not any(counts):
        return None
    return Figure(
        title="Latency",
        svg=plots.latency_histogram("latency", counts, summary="Share of requests by latency"),
        caption=f"{sum(counts):,} requests, measured inside the replicas, on a logarithmic axis.",
    )


def loss_figure(ledger: Ledger, model: str, versions: Sequence[ModelVersion]) -> Figure | None:
    made = {row.run_id: str(row.version) for row in versions}
    runs = [run for run in ledger.runs.list(model=model) if run.kind == "train"]
    shown = runs[-_MAX_RUNS:]
    panels = tuple(
        plots.Panel(
            title=title,
            curves=_loss_curves(ledger, shown, made, metric),
            x_label="epoch",
            has_legend=metric == "validation_loss",
        )
        for metric, title in (
            ("train_loss", "Training loss"),
            ("validation_loss", "Validation loss"),
        )
    )
    if not any(panel.curves for panel in panels):
        return None
    says_numbers = any(RMSE.metric in ledger.runs.last_metrics(run.id) for run in shown)
    return Figure(
        title="Training",
        svg=plots.lines("losses", panels, summary="Loss by epoch of each training run"),
        caption="Mean loss a row by epoch; each line is one training run, named by its version."
        + (
            " Squared errors, as shares of the variance of the labels in its training."
            if says_numbers
            else ""
        )
        + (f" The last {_MAX_RUNS} runs." if len(runs) > _MAX_RUNS else ""),
    )


def _loss_curves(
    ledger: Ledger, runs: Sequence[Run], made: Mapping[str, str], metric: str
) -> tuple[plots.Curve, ...]:
    logged = [(index, run, ledger.runs.metrics(run.id, metric)) for index, run in enumerate(runs)]
    return tuple(
        plots.Curve(
            label=made.get(run.id, run.id),
            x=[*range(1, len(values) + 1)],  # logged once an epoch, by the step that it ended at
            y=[value.value for value in values],
            hue=index,
        )
        for index, run, values in logged
        if values
    )


def marks_of(ledger: Ledger, model: str) -> tuple[plots.Mark, ...]:
    """Changes of champion and starts of releases, where they have an event time."""
    happened = [
        (move.event_time, f"champion {move.version}")
        for move in ledger.registry.moves(model, CHAMPION)
    ] + [
        (release.event_time, f"release {release.challenger}")
        for release in ledger.releases.list(model)
    ]
    marks = [plots.Mark(at=time, label=label) for time, label in happened if time is not None]
    return tuple(sorted(marks, key=lambda mark: mark.at))
