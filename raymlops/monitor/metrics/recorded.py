"""Metrics of what the ledger records: it counts for us, and forgets nothing at a restart."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from raymlops.data import OUTPUTS
from raymlops.data.drift import TESTS, DriftPolicy
from raymlops.ledger import Drift, Ledger, Performance
from raymlops.ledger.joins import FATES
from raymlops.monitor.alerts.book import Book
from raymlops.monitor.judging import WindowReport
from raymlops.monitor.late import late_rows
from raymlops.monitor.windows import Window, credible_before
from raymlops.telemetry import Series, catalogue

MAX_FEATURES = 50
"""Of a version's features so many are told apart, those that lie farthest from their reference."""

_VERDICTS = {
    "trigger": (catalogue.RETRAINS, ("retrain", "suppressed")),
    "gate": (catalogue.GATES, ("passed", "refused")),
}
_ENDS_OF_RELEASES = ("promoted", "rolled_back")


def recorded_series(ledger: Ledger, policy: DriftPolicy) -> Iterator[Series]:
    """Everything the catalogue has of decisions, windows and runs; `policy` judged the drift.

    Counters begin at 0 with the first alias of a model: of one that begins at 1 Prometheus sees no
    increase.
    """
    aliases = ledger.overview.aliases()
    models = sorted({model for model, _ in aliases})
    yield from _decisions(models, ledger.overview.decisions())
    yield from _releases(models, ledger.overview.releases())
    yield from _labels(models, ledger.overview.labels())
    for (model, alias), version in aliases.items():
        yield Series(catalogue.VERSION_INFO.name, (model, alias, version), 1)
    before = credible_before(datetime.now(UTC))
    drift = ledger.overview.newest_drift(before=before)
    yield from _drift(drift, policy)
    yield from _late(ledger, drift)
    yield from _performance(ledger.overview.newest_performance(before=before))
    yield from _training(ledger)


def alert_series(book: Book) -> Iterator[Series]:
    """How many alerts are open, by model and severity."""
    opened = Counter((each.model, each.severity) for each in book.episodes)
    for (model, severity), number in opened.items():
        yield Series(catalogue.OPEN_ALERTS.name, (model, severity), number)


def _decisions(
    models: Iterable[str], counts: Mapping[tuple[str, str, str], int]
) -> Iterator[Series]:
    """A gate's outcome begins with a version, which is no label: its last word is the verdict."""
    totals = Counter(
        {
            (model, kind, verdict): 0
            for model in models
            for kind, (_, verdicts) in _VERDICTS.items()
            for verdict in verdicts
        }
    )
    for (model, kind, outcome), number in counts.items():
        if kind in _VERDICTS:
            totals[model, kind, outcome.rpartition(" ")[2]] += number
    for (model, kind, verdict), number in totals.items():
        yield Series(_VERDICTS[kind][0].name, (model, verdict), number)


def _releases(models: Iterable[str], counts: Mapping[tuple[str, str], int]) -> Iterator[Series]:
    for model in models:
        for end in _ENDS_OF_RELEASES:
            number = counts.get((model, end), 0)
            yield Series(catalogue.RELEASES.name, (model, end), number)
        running = counts.get((model, "running"), 0)
        yield Series(catalogue.RELEASES_RUNNING.name, (model,), running)


def _labels(models: Iterable[str], counts: Mapping[tuple[str, str], int]) -> Iterator[Series]:
    for model, fate in itertools.product(models, FATES):
        yield Series(catalogue.LABELS.name, (model, fate), counts.get((model, fate), 0))


def _drift(rows: Sequence[Drift], policy: DriftPolicy) -> Iterator[Series]:
    by_version = sorted(rows, key=lambda row: (row.model, row.version, -row.effect))
    for (model, version), group in itertools.groupby(
        by_version, key=lambda row: (row.model, row.version)
    ):
        judged = list(group)
        inputs = [row for row in judged if row.feature not in OUTPUTS]
        drifted = sum(row.drifted for row in inputs)
        for verdict, number in (("drifted", drifted), ("steady", len(inputs) - drifted)):
            yield Series(catalogue.DRIFTED_FEATURES.name, (model, version, verdict), number)
        for row in _capped(judged):
            labels = (model, version, row.feature, row.test)
            yield Series(catalogue.DRIFT_STATISTIC.name, labels, row.effect)
            yield Series(catalogue.DRIFT_P_VALUE.name, labels, row.p_value)
            if row.test in TESTS:
                threshold = policy.threshold(row.feature, row.test)
                yield Series(catalogue.DRIFT_THRESHOLD.name, labels, threshold)


def _late(ledger: Ledger, rows: Sequence[Drift]) -> Iterator[Series]:
    for model, group in itertools.groupby(
        sorted(rows, key=lambda row: row.model), lambda row: row.model
    ):
        judged = tuple(group)
        window = Window(judged[0].window_start, judged[0].window_end)
        report = WindowReport(model=model, window=window, drift=judged, performance=())
        late = late_rows(ledger, report)
        for version in sorted({row.version for row in judged}):
            yield Series(catalogue.LATE_ROWS.name, (model, version), late.get(version, 0))


def _capped(farthest_first: Sequence[Drift]) -> Iterable[Drift]:
    """The score and as many features as there is room for: of a thousand few matter."""
    score = [row for row in farthest_first if row.feature in OUTPUTS]
    inputs = [row for row in farthest_first if row.feature not in OUTPUTS]
    return (*score, *inputs[:MAX_FEATURES])


def _performance(rows: Sequence[Performance]) -> Iterator[Series]:
    for row in rows:
        for bound in ("value", "low", "high"):
            figure = getattr(row, bound)
            if not math.isnan(figure):
                labels = (row.model, row.version, row.arm, row.metric, bound)
                yield Series(catalogue.PERFORMANCE.name, labels, figure)


def _training(ledger: Ledger) -> Iterator[Series]:
    running = ledger.runs.list(status="running")
    for (model, kind), number in Counter((run.model, run.kind) for run in running).items():
        yield Series(catalogue.RUNS.name, (model, kind), number)
    newest = {run.model: run.id for run in running if run.kind == "train"}
    for model, run_id in newest.items():
        logged = ledger.runs.newest_metrics(run_id)
        if logged:
            step = max(metric.step for metric in logged)
            yield Series(catalogue.TRAINING_STEP.name, (model,), step)
        for metric in logged:
            if metric.name == "rows_per_s":
                yield Series(catalogue.TRAINING_THROUGHPUT.name, (model,), metric.value)
