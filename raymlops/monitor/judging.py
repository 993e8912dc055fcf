"""A window judged: drift of what was asked, performance by version, arm and slice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

import numpy as np

from raymlops.data import CONFIDENCE, SCORE
from raymlops.ledger import Drift, Ledger, Outcomes, Pane, Performance, SlicePerformance
from raymlops.models import Bundle
from raymlops.monitor.bundles import Bundles
from raymlops.monitor.drift import DriftPolicy, earlier_looks, judge_window
from raymlops.monitor.expected import expected, gap
from raymlops.monitor.intervals import Estimate
from raymlops.monitor.looks import judged_again, num_again
from raymlops.monitor.performance import (
    Known,
    measure,
    measure_classes,
    measure_each_class,
    measure_numbers,
    measure_orders,
    scored_share,
)
from raymlops.monitor.references import Reference, reference_of
from raymlops.monitor.slices import SliceEstimate, measure_slices
from raymlops.monitor.windows import Window
from raymlops.storage import Store

ALL = "all"
"""Version and arm under which the ledger keeps the performance of all arms together."""

_Row = TypeVar("_Row", Drift, Performance)


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


class Judge:
    """Of all that the ledger holds of a window's days; what is found goes into the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        bundles: Bundles,
        *,
        drift: DriftPolicy,
        slice_by: tuple[str, ...],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._bundles = bundles
        self._drift = drift
        self._slice_by = slice_by

    def judge(
        self, model: str, window: Window, *, again: Collection[str] | None = None
    ) -> WindowReport:
        """Writes down what is found in `window`; killed within, it is judged again as a whole.

        One that was judged before is measured anew, and drift looked for of the versions `again`,
        by a decision that counts as one more look (`looks`).
        """
        observations = self._ledger.observations
        panes = observations.panes(model, start=window.start.date(), end=window.end.date())
        outcomes = observations.outcomes(model, start=window.start, end=window.end)
        report = WindowReport(
            model=model,
            window=window,
            drift=tuple(self._drift_rows(model, window, panes, again)),
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

    def _drift_rows(
        self, model: str, window: Window, panes: list[Pane], again: Collection[str] | None
    ) -> Iterable[Drift]:
        by_version = sorted(panes, key=lambda pane: pane.version)
        decisions = judged_again(self._ledger, model)
        for version, group in itertools.groupby(by_version, key=lambda pane: pane.version):
            if again is not None and version not in again:
                continue
            counts = np.stack([pane.cells for pane in group]).sum(axis=0)
            trained = self._bundles.of(model, version).profile
            reference = reference_of(self._ledger, self._store, model, version, trained)
            recent, num_others = self._looks(model, version, window, reference)
            num_more = num_others + num_again(decisions, version, after=reference.decision)
            for found in judge_window(
                reference.profile, counts, self._drift, recent, num_more=num_more
            ):
                yield Drift(
                    model=model,
                    version=version,
                    window_start=window.start,
                    window_end=window.end,
                    **asdict(found),
                )

    def _looks(
        self, model: str, version: str, window: Window, reference: Reference
    ) -> tuple[Sequence[Sequence[Drift]], int]:
        """What the windows before this one showed that the policy would have drift last for, and
        how many others were held against the reference."""
        observations, since = self._ledger.observations, reference.since
        ends = observations.looks(model, version)
        before = [end for end in ends if end < window.end and (since is None or end > since)]
        num_others = max(0, len(before) - self._drift.debounce + 1)
        if num_others:
            since = before[num_others - 1]
        if num_others == len(before):
            recent: Sequence[Sequence[Drift]] = ()
        else:
            rows = observations.drift(model, after=since, until=before[-1])
            recent = earlier_looks(rows, version, before=window.end, since=since)
        return recent, num_others + sum(end > window.end for end in ends)

    def _performance_rows(
        self, model: str, window: Window, panes: list[Pane], outcomes: list[Outcomes]
    ) -> Iterable[Performance]:
        saying = [self._bundles.of(model, pane.version).postprocessing for pane in panes]
        are_orders = any(each.is_ranking for each in saying)
        are_numbers = any(each.is_regression for each in saying)
        are_classes = any(each.classes for each in saying)
        for (version, arm), group in _by_arm(outcomes).items():
            # Of all arms together: what says one probability has no measure in common with these.
            several = [outcome for outcome in group if outcome.scores.ndim == 2]
            numbers = [outcome for outcome in group if self._says_number(model, outcome.version)]
            ordered = [outcome for outcome in group if self._says_order(model, outcome.version)]
            if ordered or (are_orders and not group):
                estimates = measure_orders(ordered)
            elif numbers or (are_numbers and not group):
                estimates = self._numbers(model, numbers)
            elif several or (are_classes and not group):
                estimates = measure_classes(several, known=self._known(model, several))
            else:
                estimates = self._classified(model, group)
            yield from _rows(model, version, arm, window, (*estimates, scored_share(group)))

    def _says_number(self, model: str, version: str) -> bool:
        return self._bundles.of(model, version).postprocessing.is_regression

    def _says_order(self, model: str, version: str) -> bool:
        return self._bundles.of(model, version).postprocessing.is_ranking

    def _known(self, model: str, outcomes: Iterable[Outcomes]) -> dict[str, Known]:
        return {
            version: Known(bundle.postprocessing.classes, bundle.profile.class_rates)
            for version, bundle in self._bundles_of(model, outcomes).items()
        }

    def _classified(self, model: str, group: list[Outcomes]) -> tuple[Estimate, ...]:
        """By the thresholds of all versions in `group`, against the mean of their label rates."""
        bundles = self._bundles_of(model, group)
        return measure(
            group,
            label_rate=_label_rate(bundles, group) if group else 0.5,
            thresholds={each: of.postprocessing.threshold for each, of in bundles.items()},
        )

    def _numbers(self, model: str, group: list[Outcomes]) -> tuple[Estimate, ...]:
        """Against the mean of what the labels of all versions in `group` were; no error is capped
        that one of them would have in full."""
        bundles = self._bundles_of(model, group)
        return measure_numbers(
            group,
            label_mean=_label_rate(bundles, group) if group else 0.0,
            error_cap=_widest_cap(bundles.values()),
        )

    def _bundles_of(self, model: str, group: Iterable[Outcomes]) -> dict[str, Bundle]:
        return {each: self._bundles.of(model, each) for each in {o.version for o in group}}

    def _slice_rows(
        self, model: str, window: Window, outcomes: list[Outcomes]
    ) -> Iterable[SlicePerformance]:
        for (version, arm), group in _by_arm(outcomes).items():
            if version == ALL:
                continue
            bundle = self._bundles.of(model, version)
            found = list(
                measure_slices(
                    group, self._slice_by, bundle.profile, self._measure_of(model, version)
                )
            )
            if bundle.postprocessing.classes:
                label, known = bundle.postprocessing.label, self._known(model, group)
                for part, estimate in measure_each_class(group, known=known):
                    found.append(SliceEstimate(feature=label, part=part, estimate=estimate))
            for each in found:
                yield SlicePerformance(
                    model=model,
                    version=version,
                    arm=arm,
                    window_start=window.start,
                    window_end=window.end,
                    feature=each.feature,
                    part=each.part,
                    **asdict(each.estimate),
                )

    def _measure_of(
        self, model: str, version: str
    ) -> Callable[[Sequence[Outcomes]], Sequence[Estimate]]:
        """What measures rows of that version."""
        bundle = self._bundles.of(model, version)
        saying, profile = bundle.postprocessing, bundle.profile
        if saying.is_ranking:
            return measure_orders
        if saying.is_regression:
            return partial(
                measure_numbers,
                label_mean=profile.label_rate,
                error_cap=None if profile.error_cap is None else profile.error_cap.size,
            )
        if saying.classes:
            known = {version: Known(saying.classes, profile.class_rates)}
            return partial(measure_classes, known=known)
        return partial(
            measure, label_rate=profile.label_rate, thresholds={version: saying.threshold}
        )

    def _expected_rows(
        self, model: str, window: Window, panes: list[Pane], outcomes: list[Outcomes]
    ) -> Iterable[Performance]:
        """What the scores alone let expect of each arm, and how that compares with its labels."""
        labelled = _by_arm(outcomes)
        arms = sorted({(pane.version, pane.arm) for pane in panes})
        for version, arm in arms:
            bundle = self._bundles.of(model, version)
            if (reliability := bundle.profile.reliability) is None:
                continue
            classes = bundle.postprocessing.classes
            cells = bundle.profile.cells[CONFIDENCE if classes else SCORE]
            mine = [pane for pane in panes if (pane.version, pane.arm) == (version, arm)]
            estimates = expected(
                reliability,
                [pane.cells[cells] for pane in mine],
                threshold=bundle.postprocessing.threshold,
            )
            contradiction = gap(reliability, labelled.get((version, arm), []), classes)
            yield from _rows(model, version, arm, window, (*estimates, contradiction))


def read_reports(
    ledger: Ledger, model: str, *, after: datetime | None = None, until: datetime | None = None
) -> tuple[WindowReport, ...]:
    """What was found in every window judged so far, in the order in which they ended; of those
    alone that ended in (after, until], where these are given."""
    drift = _by_window(ledger.observations.drift(model, after=after, until=until))
    performance = _by_window(ledger.observations.performance(model, after=after, until=until))
    return tuple(
        WindowReport(
            model=model,
            window=window,
            drift=tuple(drift.get(window, ())),
            performance=tuple(performance[window]),
        )
        for window in sorted(performance, key=lambda window: window.end)
    )


def newest_reports(
    ledger: Ledger, model: str, *, before: datetime | None = None
) -> Iterator[WindowReport]:
    """What was found in every window judged so far, or that ended before `before`, the newest
    first; read as far as it is asked for."""
    end = ledger.observations.last_judged(model, before=before)
    while end is not None:
        earlier = ledger.observations.last_judged(model, before=end)
        yield from reversed(read_reports(ledger, model, after=earlier, until=end))
        end = earlier


def unjudged_rows(ledger: Ledger, report: WindowReport, version: str) -> int:
    """How many rows `version` answered in a window, where they are too few to look for drift; 0
    where that was looked for."""
    if any(row.version == version for row in report.drift):
        return 0
    start, end = report.window.start.date(), report.window.end.date()
    panes = ledger.observations.panes(report.model, start=start, end=end)
    return sum(pane.num_rows for pane in panes if pane.version == version)


def _label_rate(bundles: Mapping[str, Bundle], group: Sequence[Outcomes]) -> float:
    """What the labels of their trainings were on average, by the rows that each answered."""
    rates = [bundles[outcome.version].profile.label_rate for outcome in group]
    return float(np.average(rates, weights=[len(outcome.labels) for outcome in group]))


def _widest_cap(bundles: Iterable[Bundle]) -> float | None:
    """None where one of them has none, or there are none."""
    caps = [bundle.profile.error_cap for bundle in bundles]
    known = [cap.size for cap in caps if cap is not None]
    return max(known) if known and len(known) == len(caps) else None


def _by_window(rows: Iterable[_Row]) -> dict[Window, list[_Row]]:
    """By start and end: where the unit was changed, windows of both begin at the same time."""
    found: dict[Window, list[_Row]] = {}
    for row in rows:
        found.setdefault(Window(row.window_start, row.window_end), []).append(row)
    return found


def _rows(
    model: str, version: str, arm: str, window: Window, estimates: Iterable[Estimate]
) -> Iterable[Performance]:
    for estimate in estimates:
        yield Performance(
            model=model,
            version=version,
            arm=arm,
            window_start=window.start,
            window_end=window.end,
            **asdict(estimate),
        )


def _by_arm(outcomes: list[Outcomes]) -> dict[tuple[str, str], list[Outcomes]]:
    """Outcomes by (version, arm), in order, and all of them, be they none, under (ALL, ALL)."""
    groups: dict[tuple[str, str], list[Outcomes]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.version, outcome.arm), []).append(outcome)
    return dict(sorted(groups.items())) | {(ALL, ALL): outcomes}
