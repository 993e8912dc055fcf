"""The monitor: gathers what replicas saw and labels that arrive, and judges windows once closed."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from functools import partial

import numpy as np

from raymlops.data import SCORE, Profile
from raymlops.ledger import (
    ConceptAlarm,
    Drift,
    JoinPolicy,
    Labels,
    Ledger,
    Outcome,
    Pane,
    Performance,
    SlicePerformance,
    TapMessage,
    Version,
    open_ledger,
)
from raymlops.models import Bundle
from raymlops.monitor.concept import Baseline, ConceptPolicy, watch
from raymlops.monitor.drift import DriftPolicy, earlier_looks, judge_window
from raymlops.monitor.expected import expected, gap
from raymlops.monitor.group_commit import GroupCommit
from raymlops.monitor.performance import measure, measure_numbers
from raymlops.monitor.references import reference_of
from raymlops.monitor.slices import measure_slices
from raymlops.monitor.windows import Window, WindowPolicy, due
from raymlops.serve.tap import TapSummary
from raymlops.storage import Store

_WATCH_ROWS = 4096  # requests that are shown to the detectors at a time
_MAX_BUNDLES = 16  # in memory; the others are read again

ALL = "all"
"""Version and arm under which the ledger keeps the performance of all arms together."""


@dataclass(frozen=True, kw_only=True)
class WindowReport:
    """What was found in one window: drift by version and feature, performance by arm."""

    model: str
    window: Window
    drift: tuple[Drift, ...]
    performance: tuple[Performance, ...]

    @property
    def drifted(self) -> tuple[Drift, ...]:
        """The features that drifted, the farthest first."""
        return tuple(sorted((row for row in self.drift if row.drifted), key=lambda r: -r.effect))


@dataclass(frozen=True, kw_only=True)
class MonitorStatus:
    """How far the monitor has come; `latest` is the last window judged.

    `joins` tells how many labels met which fate, see `raymlops.ledger.joins`; `num_alarms` counts
    those of concept drift.
    """

    model: str
    num_predictions: int
    num_windows: int
    latest: WindowReport | None
    joins: Mapping[str, int]
    num_alarms: int


class DriftMonitor:
    """Keeps every state in the ledger: killed at any moment, it goes on where it was.

    A plain class, to be used as it is or spawned as an actor of many threads: calls that come
    together are committed together. What `observe` and `label` have returned is on disk; repeating
    an unanswered call changes nothing that was counted before.

        replicas ──summaries──► observe ─┐             ┌─► watch ────► alarms of concept drift
        callers ───labels─────► label  ──┴─► ledger ───┴─► advance ──► drift, performance rows
    """

    def __init__(
        self,
        ledger_url: str,
        store_uri: str,
        windows: WindowPolicy,
        drift: DriftPolicy,
        concept: ConceptPolicy = ConceptPolicy(),  # noqa: B008 - it is frozen
        joins: JoinPolicy = JoinPolicy(),  # noqa: B008 - it is frozen
        slice_by: tuple[str, ...] = (),
    ) -> None:
        self._ledger = open_ledger(ledger_url)
        self._store = Store(store_uri)
        self._windows = windows
        self._drift = drift
        self._concept = concept
        self._joins = joins
        self._slice_by = slice_by
        self._messages = GroupCommit[TapMessage](self._add_taps)
        self._judging = threading.Lock()
        self._bundles: dict[tuple[str, str], Bundle] = {}

    def observe(self, message: bytes | TapSummary) -> int:
        """Merges a summary, as it is or as bytes, and returns its sequence number: that one need
        not be sent again.

        A replica sends its next summary once this one is acknowledged: a summary that overtakes
        an earlier one would make the earlier look like a repetition.
        """
        summary = TapSummary.from_bytes(message) if isinstance(message, bytes) else message
        self._messages.add(
            TapMessage(summary.replica, summary.sequence, summary.panes, summary.predictions)
        )
        return summary.sequence

    def label(self, labels: Sequence[Labels]) -> int:
        """Stores labels and returns how many requests had none before."""
        return self._ledger.observations.add_labels(labels, self._joins)

    def watch(self, model: str) -> tuple[ConceptAlarm, ...]:
        """Shows the detectors what has joined since the last time; returns the alarms they raise.

        They know right from wrong, so models that say numbers are watched by windows alone.
        Each label is shown once. A caller that was cut off before it got the answer reads the
        alarms from the ledger.
        """
        found: list[ConceptAlarm] = []
        with self._judging:
            while True:
                start, state = self._ledger.watches.state(model)
                log = self._ledger.observations.joined(model, after=start, limit=_WATCH_ROWS)
                if not log:
                    return tuple(found)
                outcomes = [each for _, each in log if not self._is_regression(model, each.version)]
                known = partial(self._baseline, model)
                state, alarms = watch(self._concept, model, outcomes, state, known)
                if self._ledger.watches.advance(
                    model, start=start, end=log[-1][0], state=state, alarms=alarms
                ):
                    found += alarms

    def advance(self, model: str, watermark: datetime) -> tuple[WindowReport, ...]:
        """Judges every window with traffic that has closed by `watermark`, and returns what was
        found.

        Each window is judged once, in order. A caller that was cut off before it got the answer
        reads the same reports from the ledger with `read_reports`.
        """
        with self._judging:
            observations = self._ledger.observations
            judged = observations.last_judged(model)
            days = observations.days(model)
            if not days:
                return ()
            since = judged or datetime.combine(days[0], time(), UTC)
            return tuple(
                self._judge(model, window)
                for window in due(self._windows, since=since, watermark=watermark)
                if _holds_any(window, days)
            )

    def status(self, model: str) -> MonitorStatus:
        reports = read_reports(self._ledger, model)
        return MonitorStatus(
            model=model,
            num_predictions=self._ledger.observations.count_predictions(model),
            num_windows=len(reports),
            latest=reports[-1] if reports else None,
            joins=self._ledger.observations.join_counts(model),
            num_alarms=len(self._ledger.watches.alarms(model)),
        )

    def _add_taps(self, messages: Sequence[TapMessage]) -> None:
        self._ledger.observations.add_taps(messages, self._joins)

    def _baseline(self, model: str, version: str) -> Baseline:
        bundle = self._bundle(model, version)
        known = bundle.profile.reliability
        return Baseline(
            threshold=bundle.postprocessing.threshold,
            error_rate=None if known is None else known.error_rate,
        )

    def _judge(self, model: str, window: Window) -> WindowReport:
        observations = self._ledger.observations
        panes = observations.panes(model, start=window.start.date(), end=window.end.date())
        outcomes = observations.outcomes(model, start=window.start, end=window.end)
        report = WindowReport(
            model=model,
            window=window,
            drift=tuple(self._drift_rows(model, window, panes)),
            performance=(
                *self._performance_rows(model, window, panes, outcomes),
                *self._expected_rows(model, window, panes, outcomes),
            ),
        )
        observations.add_drift(report.drift)
        observations.add_slices(list(self._slice_rows(model, window, outcomes)))
        # Performance rows are never none and are written last: they mark the window as judged.
        observations.add_performance(report.performance)
        return report

    def _drift_rows(self, model: str, window: Window, panes: list[Pane]) -> Iterable[Drift]:
        by_version = sorted(panes, key=lambda pane: pane.version)
        judged = self._ledger.observations.drift(model)
        for version, group in itertools.groupby(by_version, key=lambda pane: pane.version):
            counts = np.stack([pane.cells for pane in group]).sum(axis=0)
            trained = self._profile(model, version)
            reference = reference_of(self._ledger, self._store, model, version, trained)
            earlier = earlier_looks(judged, version, before=window.end, since=reference.since)
            for found in judge_window(reference.profile, counts, self._drift, earlier):
                yield Drift(
                    model=model,
                    version=version,
                    window_start=window.start,
                    window_end=window.end,
                    **asdict(found),
                )

    def _performance_rows(
        self, model: str, window: Window, panes: list[Pane], outcomes: list[Outcome]
    ) -> Iterable[Performance]:
        is_regression = any(self._is_regression(model, pane.version) for pane in panes)
        for (version, arm), group in _by_arm(outcomes).items():
            if is_regression:
                estimates = measure_numbers(group)
            else:
                num_rows = [len(outcome.labels) for outcome in group]
                rates = [self._profile(model, outcome.version).label_rate for outcome in group]
                rate = float(np.average(rates, weights=num_rows)) if group else 0.5
                estimates = measure(
                    group, label_rate=rate, thresholds=self._thresholds(group, model)
                )
            for estimate in estimates:
                yield Performance(
                    model=model,
                    version=version,
                    arm=arm,
                    window_start=window.start,
                    window_end=window.end,
                    **asdict(estimate),
                )

    def _slice_rows(
        self, model: str, window: Window, outcomes: list[Outcome]
    ) -> Iterable[SlicePerformance]:
        for (version, arm), group in _by_arm(outcomes).items():
            if version == ALL:
                continue
            bundle = self._bundle(model, version)
            of_part = (
                measure_numbers
                if bundle.postprocessing.is_regression
                else partial(
                    measure,
                    label_rate=bundle.profile.label_rate,
                    thresholds={version: bundle.postprocessing.threshold},
                )
            )
            for found in measure_slices(group, self._slice_by, bundle.profile, of_part):
                yield SlicePerformance(
                    model=model,
                    version=version,
                    arm=arm,
                    window_start=window.start,
                    window_end=window.end,
                    feature=found.feature,
                    part=found.part,
                    **asdict(found.estimate),
                )

    def _expected_rows(
        self, model: str, window: Window, panes: list[Pane], outcomes: list[Outcome]
    ) -> Iterable[Performance]:
        """What the scores alone let expect of each arm, and how that compares with its labels."""
        labelled = _by_arm(outcomes)
        arms = sorted({(pane.version, pane.arm) for pane in panes})
        for version, arm in arms:
            bundle = self._bundle(model, version)
            if (reliability := bundle.profile.reliability) is None:
                continue
            cells = bundle.profile.cells[SCORE]
            mine = [pane for pane in panes if (pane.version, pane.arm) == (version, arm)]
            estimates = expected(
                reliability,
                [pane.cells[cells] for pane in mine],
                threshold=bundle.postprocessing.threshold,
            )
            for estimate in (*estimates, gap(reliability, labelled.get((version, arm), []))):
                yield Performance(
                    model=model,
                    version=version,
                    arm=arm,
                    window_start=window.start,
                    window_end=window.end,
                    **asdict(estimate),
                )

    def _thresholds(self, outcomes: list[Outcome], model: str) -> dict[str, float]:
        versions = {outcome.version for outcome in outcomes}
        return {each: self._bundle(model, each).postprocessing.threshold for each in versions}

    def _is_regression(self, model: str, version: str) -> bool:
        return self._bundle(model, version).postprocessing.is_regression

    def _profile(self, model: str, version: str) -> Profile:
        return self._bundle(model, version).profile

    def _bundle(self, model: str, version: str) -> Bundle:
        """Of a version; versions never change, so it is read once."""
        key = (model, version)
        if key not in self._bundles:
            row = self._ledger.registry.get(model, Version.parse(version))
            while len(self._bundles) >= _MAX_BUNDLES:
                del self._bundles[next(iter(self._bundles))]
            self._bundles[key] = Bundle.of_version(self._store, row)
        return self._bundles[key]


def read_reports(ledger: Ledger, model: str) -> tuple[WindowReport, ...]:
    """What was found in every window judged so far, in order."""
    drift, performance = ledger.observations.drift(model), ledger.observations.performance(model)
    judged = sorted({Window(row.window_start, row.window_end) for row in performance})
    return tuple(
        WindowReport(
            model=model,
            window=window,
            drift=tuple(row for row in drift if row.window_start == window.start),
            performance=tuple(row for row in performance if row.window_start == window.start),
        )
        for window in judged
    )


def _holds_any(window: Window, days: Sequence[date]) -> bool:
    """Whether one of `days`, in order, lies in the window: what clients tell of the time of an
    event may lie years apart, with nothing to judge in between."""
    first = bisect_left(days, window.start.date())
    return first < len(days) and days[first] < window.end.date()


def _by_arm(outcomes: list[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Outcomes by (version, arm), in order, and all of them, be they none, under (ALL, ALL)."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.version, outcome.arm), []).append(outcome)
    return dict(sorted(groups.items())) | {(ALL, ALL): outcomes}
