"""The story of a model as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from raymlops.data import SCORE
from raymlops.errors import NotFoundError
from raymlops.ledger import Ledger, ModelVersion, Pane, Performance, Run, SlicePerformance
from raymlops.monitor import plots
from raymlops.monitor.actor import ALL, WindowReport, read_reports
from raymlops.monitor.alerts.episodes import Alert
from raymlops.monitor.expected import is_off
from raymlops.monitor.period import EVER, Period
from raymlops.monitor.traffic import traffic_panels
from raymlops.serve.latency import quantile_s

_MAX_HEAT_COLUMNS = 14
_MAX_SLICES = 20
_LOSSES = {"log_loss": "Log loss", "mae": "Mean absolute error"}
_SLICE_MEASURES = {
    "log_loss": {"log_loss": "Log loss", "accuracy": "Accuracy", "roc_auc": "AUC"},
    "mae": {"mae": "Mean absolute error", "rmse": "RMSE", "bias": "Bias"},
}
_CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class _Fact:
    label: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class _Figure:
    title: str
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class _VersionRow:
    version: str
    is_champion: bool
    registered: datetime
    trained_to: datetime | None
    run: str
    data: str
    log_loss: str


@dataclass(frozen=True, kw_only=True)
class _SliceRow:
    feature: str
    part: str
    answered_by: str
    num_rows: int
    loss: str
    measures: tuple[SlicePerformance | None, ...]


def write_report(
    ledger: Ledger,
    model: str,
    path: Path,
    *,
    title: str | None = None,
    period: Period = EVER,
    alerts: Sequence[Alert] = (),
) -> Path:
    """Writes what the ledger knows of `model` in `period` to `path` as one self-contained page.

    Of `alerts`, as a book of alerts keeps them, those of the model and the period are shown.

    Figures are inlined as SVG, light and dark mode follow the reader's system, no script runs
    and nothing is fetched. What has not happened yet is left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    reports = [
        each
        for each in read_reports(ledger, model)
        if period.meets(each.window.start, each.window.end)
    ]
    panes = [
        pane
        for pane in ledger.observations.panes(model, start=date.min, end=date.max)
        if period.holds_day(pane.day)
    ]
    versions = ledger.registry.list(model)
    hues = {str(row.version): index for index, row in enumerate(versions)}
    latency = _latency_counts(panes)
    figures = [
        _traffic_figure(panes, hues),
        _performance_figure(reports, hues, _marks(ledger, model)),
        _drift_figure(reports),
        _latency_figure(latency),
        _loss_figure(ledger, model, versions),
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = lambda time: f"{time:%-d %b %Y}" if time else ""
    environment.filters["minute"] = lambda time: f"{time:%Y-%m-%d %H:%M}"
    environment.filters["svg"] = Markup  # ours; every text in it is escaped by matplotlib
    slices = _slice_rows(ledger, model, reports[-1]) if reports else []
    page = environment.get_template("report.html.j2").render(
        title=title or model,
        period=period,
        facts=_facts(ledger, model, reports, latency),
        decisions=[
            each
            for each in ledger.decisions.list(model=model)
            if period.holds(each.event_time or each.at)
        ],
        releases=[
            each
            for each in ledger.releases.list(model)
            if period.holds(each.event_time or each.started_at)
        ],
        alerts=[each for each in alerts if each.model == model and period.holds(each.started_at)],
        figures=[figure for figure in figures if figure is not None],
        slices=slices,
        slice_measures=list(_SLICE_MEASURES[slices[0].loss].values()) if slices else [],
        most_slices=_MAX_SLICES,
        versions=_version_rows(ledger, model, versions),
        written_at=datetime.now(UTC),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _facts(
    ledger: Ledger, model: str, reports: Sequence[WindowReport], latency: Sequence[int]
) -> list[_Fact]:
    facts = []
    champion = _champion(ledger, model)
    if champion is not None:
        moves = ledger.registry.moves(model, _CHAMPION)
        since = moves[-1].event_time or moves[-1].at
        facts.append(
            _Fact(label="Champion", value=str(champion.version), note=f"since {since:%-d %b %Y}")
        )
    if alarms := ledger.watches.alarms(model):
        last = alarms[-1]
        note = f"errors of {last.version} rose to {last.recent_rate:.3f}, {last.event_time:%-d %b}"
        facts.append(_Fact(label="Alarms of concept drift", value=str(len(alarms)), note=note))
    num_predictions = ledger.observations.count_predictions(model)
    facts.append(
        _Fact(
            label="Requests answered", value=f"{num_predictions:,}", note="kept with their scores"
        )
    )
    if reports:
        latest = reports[-1]
        overall = {row.metric: row for row in latest.performance if row.version == ALL}
        loss = next(row for name, row in overall.items() if name in _LOSSES)
        if not math.isnan(loss.value):
            note = f"{loss.low:.3f} to {loss.high:.3f}"
            if baseline := overall.get("baseline_log_loss"):
                note += f"; constant guess {baseline.value:.3f}"
            label = f"{_LOSSES[loss.metric]}, last window"
            facts.append(_Fact(label=label, value=f"{loss.value:.3f}", note=note))
        hopes = [row for row in latest.performance if row.metric == "expected_log_loss"]
        if hopes:
            hope = max(hopes, key=lambda row: row.num_rows)
            rows = [row for row in latest.performance if _same_arm(row, hope)]
            note = "labels contradict it" if is_off(rows) else "from the scores alone"
            facts.append(_Fact(label="Log loss expected", value=f"{hope.value:.3f}", note=note))
        if slices := _worst_slices(ledger, model, latest):
            worst = slices[0]
            name = _LOSSES[worst.metric].lower()
            note = f"{name} {worst.value:.3f}, {worst.low:.3f} to {worst.high:.3f}"
            value = f"{worst.feature} {worst.part}"
            facts.append(_Fact(label="Worst slice, last window", value=value, note=note))
        if latest.drift:
            farthest = latest.drifted[0].feature if latest.drifted else "none"
            num_features = len({row.feature for row in latest.drift} - {SCORE})
            value = f"{len({row.feature for row in latest.drifted} - {SCORE})} of {num_features}"
            facts.append(
                _Fact(label="Drifted, last window", value=value, note=f"farthest: {farthest}")
            )
    if any(latency):
        value, median = (plots.milliseconds(quantile_s(latency, q)) for q in (0.99, 0.5))
        facts.append(_Fact(label="Latency, p99", value=value, note=f"median {median}"))
    return facts


def _champion(ledger: Ledger, model: str) -> ModelVersion | None:
    try:
        return ledger.registry.resolve(f"{model}@{_CHAMPION}")
    except NotFoundError:
        return None


def _marks(ledger: Ledger, model: str) -> tuple[plots.Mark, ...]:
    """Changes of champion and starts of releases, where they have an event time."""
    happened = [
        (move.event_time, f"champion {move.version}")
        for move in ledger.registry.moves(model, _CHAMPION)
    ] + [
        (release.event_time, f"release {release.challenger}")
        for release in ledger.releases.list(model)
    ]
    marks = [plots.Mark(at=time, label=label) for time, label in happened if time is not None]
    return tuple(sorted(marks, key=lambda mark: mark.at))


def _worst_slices(ledger: Ledger, model: str, latest: WindowReport) -> list[SlicePerformance]:
    """Their losses, first that which is high for certain: by the lower end of its interval."""
    losses = [
        row
        for row in ledger.observations.slices(model)
        if row.window_start == latest.window.start
        and row.metric in _LOSSES
        and not math.isnan(row.low)
    ]
    return sorted(losses, key=lambda row: -row.low)


def _slice_rows(ledger: Ledger, model: str, latest: WindowReport) -> list[_SliceRow]:
    """The slices of the last window in which the model does worst, with all their intervals."""

    def identity(row: SlicePerformance) -> tuple[str, str, str, str]:
        return row.version, row.arm, row.feature, row.part

    found = {
        (*identity(row), row.metric): row
        for row in ledger.observations.slices(model)
        if row.window_start == latest.window.start
    }
    return [
        _SliceRow(
            feature=worst.feature,
            part=worst.part,
            answered_by=f"{worst.version} {worst.arm}",
            num_rows=worst.num_rows,
            loss=worst.metric,
            measures=tuple(
                found.get((*identity(worst), metric)) for metric in _SLICE_MEASURES[worst.metric]
            ),
        )
        for worst in _worst_slices(ledger, model, latest)[:_MAX_SLICES]
    ]


def _same_arm(row: Performance, other: Performance) -> bool:
    return (row.version, row.arm) == (other.version, other.arm)


def _performance_figure(
    reports: Sequence[WindowReport], hues: Mapping[str, int], marks: tuple[plots.Mark, ...]
) -> _Figure | None:
    rows = [row for report in reports for row in report.performance if not math.isnan(row.value)]
    if not rows:
        return None
    if not any(row.metric == "log_loss" for row in rows):
        return _numbers_figure(rows, hues, marks)
    baseline = [row for row in rows if row.metric == "baseline_log_loss" and row.version == ALL]
    constant = plots.Curve(
        label="constant guess", x=_middles(baseline), y=[row.value for row in baseline]
    )
    panels = (
        plots.Panel(
            title="Log loss, lower is better",
            curves=(constant, *_arm_curves(rows, "log_loss", hues)),
            marks=marks,
        ),
        plots.Panel(
            title="Area under the ROC curve, higher is better",
            curves=_arm_curves(rows, "roc_auc", hues),
            marks=marks,
            has_legend=False,
        ),
    )
    return _Figure(
        title="Performance",
        svg=plots.timeline("performance", panels, summary="Log loss and AUC by window"),
        caption="Each point is one window of event time with its 95 % interval, clustered by day. "
        "The dashed line is what always predicting the training label rate would cost. Hollow "
        "points are arms on trial. Dotted verticals: a release began, or the champion changed.",
    )


def _numbers_figure(
    rows: Sequence[Performance], hues: Mapping[str, int], marks: tuple[plots.Mark, ...]
) -> _Figure:
    panels = tuple(
        plots.Panel(
            title=title, curves=_arm_curves(rows, metric, hues), marks=marks, has_legend=has_legend
        )
        for metric, title, has_legend in (
            ("mae", "Mean absolute error, lower is better", True),
            ("bias", "Bias, predicted less actual", False),
        )
    )
    return _Figure(
        title="Performance",
        svg=plots.timeline("performance", panels, summary="Mean absolute error by window"),
        caption="Each point is one window of event time with its 95 % interval, clustered by day. "
        "Hollow points are arms on trial. Dotted verticals: a release began, or the champion "
        "changed.",
    )


def _arm_curves(
    rows: Sequence[Performance], metric: str, hues: Mapping[str, int]
) -> tuple[plots.Curve, ...]:
    arms: dict[tuple[str, str], list[Performance]] = {}
    for row in rows:
        if row.metric == metric and row.version != ALL:
            arms.setdefault((row.version, row.arm), []).append(row)
    return tuple(
        plots.Curve(
            label=version if arm == _CHAMPION else f"{version} {arm}",
            x=_middles(group),
            y=[row.value for row in group],
            low=[row.low for row in group],
            high=[row.high for row in group],
            hue=hues.get(version, 0),
            hollow=arm != _CHAMPION,
        )
        for (version, arm), group in arms.items()
    )


def _middles(rows: Sequence[Performance]) -> list[datetime]:
    return [row.window_start + (row.window_end - row.window_start) / 2 for row in rows]


def _drift_figure(reports: Sequence[WindowReport]) -> _Figure | None:
    effects: dict[str, dict[str, float]] = {}
    drifted: dict[str, set[str]] = {}
    judged = [report for report in reports if report.drift]
    for report in judged[-_MAX_HEAT_COLUMNS:]:
        version = max(report.drift, key=lambda row: row.num_rows).version
        rows = [row for row in report.drift if row.version == version]
        column = f"{report.window.start:%-d %b}\n{version}"
        effects[column] = {row.feature: row.effect for row in rows}
        drifted[column] = {row.feature for row in rows if row.drifted}
    if not effects:
        return None
    return _Figure(
        title="Drift of the inputs and of the score",
        svg=plots.heat_map("drift", effects, drifted, summary="Drift effect by window, feature"),
        caption="Distance of each window from what its busiest version was trained on: 0 is "
        "alike, 1 is disjoint (largest gap between distribution functions for numbers, total "
        "variation for categories, difference of shares where values are missing). A cell is "
        "shaded where the distance is both significant after correction for all features and "
        "large enough to matter."
        + (f" The last {_MAX_HEAT_COLUMNS} windows." if len(judged) > _MAX_HEAT_COLUMNS else ""),
    )


def _traffic_figure(panes: Sequence[Pane], hues: Mapping[str, int]) -> _Figure | None:
    if not panes:
        return None
    return _Figure(
        title="Traffic",
        svg=plots.timeline("traffic", traffic_panels(panes, hues), summary="Requests by day"),
        caption=f"{sum(pane.num_rows for pane in panes):,} rows in "
        f"{sum(sum(pane.latency) for pane in panes):,} requests answered; "
        f"{sum(pane.num_failed for pane in panes):,} failed.",
    )


def _latency_counts(panes: Sequence[Pane]) -> list[int]:
    return [sum(bucket) for bucket in zip(*(pane.latency for pane in panes), strict=True)]


def _latency_figure(counts: Sequence[int]) -> _Figure | None:
    if not any(counts):
        return None
    return _Figure(
        title="Latency",
        svg=plots.latency_histogram("latency", counts, summary="Share of requests by latency"),
        caption=f"{sum(counts):,} requests, measured inside the replicas, on a logarithmic axis.",
    )


def _loss_figure(ledger: Ledger, model: str, versions: Sequence[ModelVersion]) -> _Figure | None:
    made = {row.run_id: str(row.version) for row in versions}
    runs = [run for run in ledger.runs.list(model=model) if run.kind == "train"]
    panels = tuple(
        plots.Panel(
            title=title,
            curves=_loss_curves(ledger, runs, made, metric),
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
    return _Figure(
        title="Training",
        svg=plots.lines("losses", panels, summary="Loss by epoch of each training run"),
        caption="Mean log loss by epoch; each line is one training run, named by its version.",
    )


def _loss_curves(
    ledger: Ledger, runs: Sequence[Run], made: Mapping[str, str], metric: str
) -> tuple[plots.Curve, ...]:
    logged = [(index, run, ledger.runs.metrics(run.id, metric)) for index, run in enumerate(runs)]
    return tuple(
        plots.Curve(
            label=made.get(run.id, run.id),
            x=[value.step for value in values],
            y=[value.value for value in values],
            hue=index,
        )
        for index, run, values in logged
        if values
    )


def _version_rows(
    ledger: Ledger, model: str, versions: Sequence[ModelVersion]
) -> list[_VersionRow]:
    champion = _champion(ledger, model)
    rows = []
    for row in reversed(versions):
        metrics = ledger.runs.last_metrics(row.run_id)
        loss = metrics.get("log_loss", metrics.get("validation_loss"))
        inputs = ledger.runs.inputs(row.run_id).values()
        rows.append(
            _VersionRow(
                version=str(row.version),
                is_champion=row == champion,
                registered=row.created_at,
                trained_to=row.event_time,
                run=row.run_id,
                data=", ".join(f"{name} {version}" for name, version in inputs),
                log_loss="" if loss is None else f"{loss:.4f}",
            )
        )
    return rows
