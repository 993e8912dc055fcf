"""The story of a model as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from raymlops.data import OUTPUTS
from raymlops.errors import NotFoundError
from raymlops.ledger import (
    Decision,
    Ledger,
    ModelVersion,
    Pane,
    Performance,
    Release,
    SlicePerformance,
)
from raymlops.monitor import plots
from raymlops.monitor.alerts.episodes import Alert
from raymlops.monitor.expected import is_off
from raymlops.monitor.figures import (
    CHAMPION,
    Figure,
    drift_figure,
    latency_figure,
    loss_figure,
    marks_of,
    performance_figure,
    traffic_figure,
)
from raymlops.monitor.judging import ALL, WindowReport, read_reports, unjudged_rows
from raymlops.monitor.late import late_labels, late_rows
from raymlops.monitor.period import EVER, Period
from raymlops.monitor.windows import Window
from raymlops.serve.tap.latency import quantile_s

if TYPE_CHECKING:
    from jinja2 import Template

_MAX_SLICES = 20
_LOSSES = {"log_loss": "Log loss", "mae": "Mean absolute error"}
_CLASS_MEASURES = ("recall", "precision", "f1")
_SAID = "said "
_SLICE_MEASURES = {
    "log_loss": {"log_loss": "Log loss", "accuracy": "Accuracy", "roc_auc": "AUC"},
    "mae": {"mae": "Mean absolute error", "rmse": "RMSE", "bias": "Bias"},
}


@dataclass(frozen=True, kw_only=True)
class _Fact:
    label: str
    value: str
    note: str


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


@dataclass(frozen=True, kw_only=True)
class _ClassRow:
    """What became of a class; `taken_for` are the shares of other classes that were said of it."""

    name: str
    answered_by: str
    num_rows: int
    measures: tuple[SlicePerformance | None, ...]
    taken_for: tuple[tuple[str, float], ...]


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
    reports = _reports_in(period, ledger, model)
    panes = _panes_in(period, ledger, model)
    latency = _latency_counts(panes)
    versions = ledger.registry.list(model)
    slices = _slice_rows(ledger, model, reports[-1]) if reports else []
    page = _template().render(
        title=title or model,
        period=period,
        facts=list(_facts(ledger, model, reports, latency)),
        decisions=_decisions_in(period, ledger, model),
        releases=_releases_in(period, ledger, model),
        alerts=[each for each in alerts if each.model == model and period.holds(each.started_at)],
        figures=_figures(ledger, model, versions, reports, panes, latency),
        slices=slices,
        slice_measures=list(_SLICE_MEASURES[slices[0].loss].values()) if slices else [],
        most_slices=_MAX_SLICES,
        classes=_class_rows(ledger, model, reports[-1]) if reports else [],
        versions=_version_rows(ledger, model, versions),
        written_at=datetime.now(UTC),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _reports_in(period: Period, ledger: Ledger, model: str) -> list[WindowReport]:
    found = read_reports(ledger, model)
    return [each for each in found if period.meets(each.window.start, each.window.end)]


def _panes_in(period: Period, ledger: Ledger, model: str) -> list[Pane]:
    found = ledger.observations.panes(model, start=date.min, end=date.max)
    return [pane for pane in found if period.holds_day(pane.day)]


def _decisions_in(period: Period, ledger: Ledger, model: str) -> list[Decision]:
    found = ledger.decisions.list(model=model)
    return [each for each in found if period.holds(each.event_time or each.at)]


def _releases_in(period: Period, ledger: Ledger, model: str) -> list[Release]:
    found = ledger.releases.list(model)
    return [each for each in found if period.holds(each.event_time or each.started_at)]


def _figures(
    ledger: Ledger,
    model: str,
    versions: Sequence[ModelVersion],
    reports: Sequence[WindowReport],
    panes: Sequence[Pane],
    latency: Sequence[int],
) -> list[Figure]:
    """Those of which something has happened already."""
    hues = {str(row.version): index for index, row in enumerate(versions)}
    figures = (
        traffic_figure(panes, hues),
        performance_figure(reports, hues, marks_of(ledger, model)),
        drift_figure(reports),
        latency_figure(latency),
        loss_figure(ledger, model, versions),
    )
    return [figure for figure in figures if figure is not None]


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

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
    return environment.get_template("report.html.j2")


def _facts(
    ledger: Ledger, model: str, reports: Sequence[WindowReport], latency: Sequence[int]
) -> Iterator[_Fact]:
    champion = _champion(ledger, model)
    if champion is not None:
        moves = ledger.registry.moves(model, CHAMPION)
        since = moves[-1].event_time or moves[-1].at
        yield _Fact(label="Champion", value=str(champion.version), note=f"since {since:%-d %b %Y}")
    if alarms := ledger.watches.alarms(model):
        last = alarms[-1]
        note = f"errors of {last.version} rose to {last.recent_rate:.3f}, {last.event_time:%-d %b}"
        yield _Fact(label="Alarms of concept drift", value=str(len(alarms)), note=note)
    answered = f"{ledger.observations.count_predictions(model):,}"
    yield _Fact(label="Requests answered", value=answered, note="kept with their scores")
    if reports:
        yield from _performance_facts(ledger, model, reports[-1])
        yield from _drift_facts(ledger, reports[-1], champion)
    if any(latency):
        value, median = (plots.milliseconds(quantile_s(latency, q)) for q in (0.99, 0.5))
        yield _Fact(label="Latency, p99", value=value, note=f"median {median}")


def _performance_facts(ledger: Ledger, model: str, latest: WindowReport) -> Iterator[_Fact]:
    """How good the model was in the last window, what came late for it, and what is expected."""
    overall = {row.metric: row for row in latest.performance if row.version == ALL}
    loss = next(row for name, row in overall.items() if name in _LOSSES)
    if not math.isnan(loss.value):
        note = f"{loss.low:.3f} to {loss.high:.3f}"
        if baseline := overall.get("baseline_log_loss"):
            note += f"; constant guess {baseline.value:.3f}"
        label = f"{_LOSSES[loss.metric]}, last window"
        yield _Fact(label=label, value=f"{loss.value:.3f}", note=note)
    late, labelled = late_rows(ledger, latest), late_labels(ledger, latest)
    if late or labelled:
        note = f"rows of {latest.window}, and labels of {labelled:,}"
        yield _Fact(label="Came after it was judged", value=f"{sum(late.values()):,}", note=note)
    hopes = [row for row in latest.performance if row.metric == "expected_log_loss"]
    if hopes:
        hope = max(hopes, key=lambda row: row.num_rows)
        rows = [row for row in latest.performance if _same_arm(row, hope)]
        note = "labels contradict it" if is_off(rows) else "from the scores alone"
        yield _Fact(label="Log loss expected", value=f"{hope.value:.3f}", note=note)
    if slices := _worst_slices(ledger, model, latest):
        worst = slices[0]
        name = _LOSSES[worst.metric].lower()
        note = f"{name} {worst.value:.3f}, {worst.low:.3f} to {worst.high:.3f}"
        value = f"{worst.feature} {worst.part}"
        yield _Fact(label="Worst slice, last window", value=value, note=note)


def _drift_facts(
    ledger: Ledger, latest: WindowReport, champion: ModelVersion | None
) -> Iterator[_Fact]:
    """How many features drifted in the last window, or why nobody knows."""
    label = "Drifted, last window"
    if latest.drift:
        farthest = latest.drifted[0].feature if latest.drifted else "none"
        num_features = len({row.feature for row in latest.drift} - {*OUTPUTS})
        value = f"{len({row.feature for row in latest.drifted} - {*OUTPUTS})} of {num_features}"
        yield _Fact(label=label, value=value, note=f"farthest: {farthest}")
    elif champion is not None and (
        num_rows := unjudged_rows(ledger, latest, str(champion.version))
    ):
        note = f"{num_rows:,} rows are fewer than monitor.drift.min_rows"
        yield _Fact(label=label, value="not judged", note=note)


def _champion(ledger: Ledger, model: str) -> ModelVersion | None:
    try:
        return ledger.registry.resolve(f"{model}@{CHAMPION}")
    except NotFoundError:
        return None


def _worst_slices(ledger: Ledger, model: str, latest: WindowReport) -> list[SlicePerformance]:
    """Their losses, first that which is high for certain: by the lower end of its interval."""
    losses = [
        row
        for row in _slices_in(ledger, model, latest.window)
        if row.metric in _LOSSES and not math.isnan(row.low)
    ]
    return sorted(losses, key=lambda row: -row.low)


def _slice_rows(ledger: Ledger, model: str, latest: WindowReport) -> list[_SliceRow]:
    """The slices of the last window in which the model does worst, with all their intervals."""

    def identity(row: SlicePerformance) -> tuple[str, str, str, str]:
        return row.version, row.arm, row.feature, row.part

    found = {(*identity(row), row.metric): row for row in _slices_in(ledger, model, latest.window)}
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


def _class_rows(ledger: Ledger, model: str, latest: WindowReport) -> list[_ClassRow]:
    """Of a model that tells classes apart, what each came to in the last window."""
    found: dict[tuple[str, str, str], dict[str, SlicePerformance]] = {}
    for row in _slices_in(ledger, model, latest.window):
        found.setdefault((row.version, row.arm, row.part), {})[row.metric] = row
    return [
        _ClassRow(
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
    return [
        row
        for row in ledger.observations.slices(model)
        if (row.window_start, row.window_end) == (window.start, window.end)
    ]


def _same_arm(row: Performance, other: Performance) -> bool:
    return (row.version, row.arm) == (other.version, other.arm)


def _latency_counts(panes: Sequence[Pane]) -> list[int]:
    return [sum(bucket) for bucket in zip(*(pane.latency for pane in panes), strict=True)]


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
