"""The story of a model as one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from raymlops.ledger import (
    Decision,
    Ledger,
    ModelVersion,
    Pane,
    Release,
)
from raymlops.ledger.figures import shown_figure
from raymlops.monitor.alerts.episodes import Alert
from raymlops.monitor.judging import WindowReport, read_reports
from raymlops.monitor.pages import template, write_page
from raymlops.monitor.report.facts import facts
from raymlops.monitor.report.figures import (
    Figure,
    drift_figure,
    latency_figure,
    loss_figure,
    marks_of,
    performance_figure,
    traffic_figure,
)
from raymlops.monitor.report.period import EVER, Period
from raymlops.monitor.report.slices import MAX_SLICES, SLICE_MEASURES, class_rows, slice_rows
from raymlops.monitor.report.versions import version_rows
from raymlops.monitor.windows import credible_before

if TYPE_CHECKING:
    from jinja2 import Template


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
    slices = slice_rows(ledger, model, reports[-1]) if reports else []
    page = _template().render(
        title=title or model,
        period=period,
        facts=list(facts(ledger, model, reports, latency)),
        decisions=_decisions_in(period, ledger, model),
        releases=_releases_in(period, ledger, model),
        alerts=[each for each in alerts if each.model == model and period.holds(each.started_at)],
        figures=_figures(ledger, model, versions, reports, panes, latency),
        slices=slices,
        slice_measures=list(SLICE_MEASURES[slices[0].loss].values()) if slices else [],
        most_slices=MAX_SLICES,
        classes=class_rows(ledger, model, reports[-1]) if reports else [],
        versions=version_rows(ledger, model, versions),
        written_at=datetime.now(UTC),
    )
    return write_page(page, path)


def _reports_in(period: Period, ledger: Ledger, model: str) -> list[WindowReport]:
    now = credible_before(datetime.now(UTC))
    found = read_reports(ledger, model, after=period.since, until=now)
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
    from markupsafe import Markup

    return template(
        Path(__file__).with_name("page.html.j2"),
        day=lambda time: f"{time:%-d %b %Y}" if time else "",
        minute=lambda time: f"{time:%Y-%m-%d %H:%M}",
        figure=lambda value: shown_figure(value, 3),
        svg=Markup,  # ours; every text in it is escaped by matplotlib
    )


def _latency_counts(panes: Sequence[Pane]) -> list[int]:
    return [sum(bucket) for bucket in zip(*(pane.latency for pane in panes), strict=True)]
