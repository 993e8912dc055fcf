"""What stands first in a report: a few figures of a model, each with what it means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raymlops.data import OUTPUTS
from raymlops.ledger import Ledger, ModelVersion, Performance, SlicePerformance
from raymlops.ledger.figures import shown_figure
from raymlops.monitor import plots
from raymlops.monitor.expected import is_off
from raymlops.monitor.judging import ALL, WindowReport, unjudged_rows
from raymlops.monitor.late import late_labels, late_rows
from raymlops.monitor.losses import HELD_TO, LOSSES
from raymlops.monitor.report.figures import CHAMPION
from raymlops.monitor.report.slices import worst_slices
from raymlops.monitor.report.versions import champion_of
from raymlops.serve.tap.latency import quantile_s


@dataclass(frozen=True, kw_only=True)
class Fact:
    label: str
    value: str
    note: str


def facts(
    ledger: Ledger, model: str, reports: Sequence[WindowReport], latency: Sequence[int]
) -> Iterator[Fact]:
    champion = champion_of(ledger, model)
    if champion is not None:
        moves = ledger.registry.moves(model, CHAMPION)
        since = moves[-1].event_time or moves[-1].at
        yield Fact(label="Champion", value=str(champion.version), note=f"since {since:%-d %b %Y}")
    if alarms := ledger.watches.alarms(model):
        last = alarms[-1]
        note = f"errors of {last.version} rose to {last.recent_rate:.1%}, {last.event_time:%-d %b}"
        yield Fact(label="Alarms of concept drift", value=str(len(alarms)), note=note)
    answered = f"{ledger.observations.count_predictions(model):,}"
    yield Fact(label="Requests answered", value=answered, note="kept with their scores")
    if reports:
        yield from _performance_facts(ledger, model, reports[-1])
        yield from _drift_facts(ledger, reports[-1], champion)
    if any(latency):
        value, median = (plots.milliseconds(quantile_s(latency, q)) for q in (0.99, 0.5))
        yield Fact(label="Latency, p99", value=value, note=f"median {median}")


def _performance_facts(ledger: Ledger, model: str, latest: WindowReport) -> Iterator[Fact]:
    """How good the model was in the last window, what came late for it, and what is expected."""
    overall = {row.metric: row for row in latest.performance if row.version == ALL}
    loss = next(row for name, row in overall.items() if name in LOSSES)
    if not math.isnan(loss.value):
        note = _interval(loss)
        if baseline := overall.get(f"baseline_{loss.metric}"):
            note += f"; {LOSSES[loss.metric].guess} {shown_figure(baseline.value, 3)}"
        label = f"{LOSSES[loss.metric].heading}, last window"
        yield Fact(label=label, value=shown_figure(loss.value, 3), note=note)
    wild = overall.get("wild_labels")
    if wild is not None and wild.value > 0.0:
        cap = shown_figure(overall["error_cap"].value, 3)
        note = f"of {wild.num_rows:,}; where the RMSE decides, their errors count as {cap}"
        num = round(wild.value * wild.num_rows)
        yield Fact(label="Wild labels, last window", value=f"{num:,}", note=note)
    late, labelled = late_rows(ledger, latest), late_labels(ledger, latest)
    if late or labelled:
        note = f"rows of {latest.window}, and labels of {labelled:,}"
        yield Fact(label="Came after it was judged", value=f"{sum(late.values()):,}", note=note)
    hopes = [row for row in latest.performance if row.metric == "expected_log_loss"]
    if hopes:
        hope = max(hopes, key=lambda row: row.num_rows)
        rows = [row for row in latest.performance if _same_arm(row, hope)]
        note = "labels contradict it" if is_off(rows) else "from the scores alone"
        yield Fact(label="Log loss expected", value=shown_figure(hope.value, 3), note=note)
    if slices := worst_slices(ledger, model, latest):
        worst = slices[0]
        name = HELD_TO[worst.metric].title
        note = f"{name} {shown_figure(worst.value, 3)}, {_interval(worst)}"
        value = f"{worst.feature} {worst.part}"
        yield Fact(label="Worst slice, last window", value=value, note=note)


def _interval(row: Performance | SlicePerformance) -> str:
    return f"{shown_figure(row.low, 3)} to {shown_figure(row.high, 3)}"


def _drift_facts(
    ledger: Ledger, latest: WindowReport, champion: ModelVersion | None
) -> Iterator[Fact]:
    """How many features drifted in the last window, or why nobody knows."""
    label = "Drifted, last window"
    if latest.drift:
        farthest = latest.drifted[0].feature if latest.drifted else "none"
        num_features = len({row.feature for row in latest.drift} - {*OUTPUTS})
        value = f"{len({row.feature for row in latest.drifted} - {*OUTPUTS})} of {num_features}"
        yield Fact(label=label, value=value, note=f"farthest: {farthest}")
    elif champion is not None and (
        num_rows := unjudged_rows(ledger, latest, str(champion.version))
    ):
        note = f"{num_rows:,} rows are fewer than monitor.drift.min_rows"
        yield Fact(label=label, value="not judged", note=note)


def _same_arm(row: Performance, other: Performance) -> bool:
    return (row.version, row.arm) == (other.version, other.arm)
