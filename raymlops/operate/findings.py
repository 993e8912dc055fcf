"""What windows and alarms call for, read from the ledger: whom the monitor told may be dead."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from raymlops.ledger import Drift, Performance
from raymlops.models import Bundle
from raymlops.monitor import (
    WindowReport,
    credible_before,
    newest_reports,
    read_reports,
    unjudged_rows,
)
from raymlops.operate.journal import Journal
from raymlops.operate.recoveries import KIND as RECOVERY
from raymlops.operate.recoveries import Standard, calm_windows, open_causes
from raymlops.operate.triggers import (
    Trigger,
    cause_of,
    concept_trigger,
    find_trigger,
    last_considered,
)
from raymlops.operate.wild_labels import KIND as LABELS
from raymlops.operate.wild_labels import TAME, said_of_labels
from raymlops.operate.workspace import Workspace

_logger = logging.getLogger(__name__)


class Call(NamedTuple):
    """For a new model; once answered, the window that ends at `window_end` counts as considered,
    if there is one."""

    trigger: Trigger
    window_end: datetime | None = None


class Findings:
    """Of the monitor of a workspace's model."""

    def __init__(self, workspace: Workspace, journal: Journal) -> None:
        self._workspace = workspace
        self._model = workspace.model
        self._ledger = workspace.ledger
        self._journal = journal
        self._sizes: list[int] = []  # of what was found in the newest window
        self._set_back_at: datetime | None = None  # when it was seen that the clock had been

    def in_windows(self, now: datetime) -> Iterator[Call]:
        """What windows call for that were judged and never considered, in order. Those that call
        for nothing are considered by that, and what is over is told."""
        known, before = self._considered(now), credible_before(now)
        last = self._ledger.observations.last_judged(self._model, before=before)
        if last is None:
            return
        if known is not None and last <= known:
            yield from self._in_the_newest_again(before)
            return
        for report in read_reports(self._ledger, self._model, after=known, until=last):
            yield from self._in_window(report, now)

    def in_alarms(self) -> Iterator[Call]:
        """What alarms of concept drift call for that no trigger has considered."""
        policy = self._workspace.settings.retrain
        if "concept" not in policy.on:
            return
        champion = self._ledger.registry.alias(self._model, "champion")
        known = last_considered(self._journal.all("trigger"))
        alarms = self._ledger.watches.alarms(self._model, version=str(champion), after=known)
        if (trigger := concept_trigger(policy, alarms)) is not None:
            yield Call(trigger)

    def _in_window(self, report: WindowReport, now: datetime) -> Iterator[Call]:
        standard = self._standard()
        self._sizes = _sizes(report.drift, report.performance)
        if "drift" in standard.retrain.on:
            self._warn_of_few_rows(report, standard.version)
        self._tell_recoveries(report, standard, now)
        self._tell_wild_labels(report, standard.version, now)
        if (trigger := _trigger_in(report, standard)) is None:
            self._ledger.decisions.consider(self._model, report.window.end)
        else:
            yield Call(trigger, report.window.end)

    def _considered(self, now: datetime) -> datetime | None:
        """The end of the last window that was considered. Where that is yet to come it was so by a
        clock that was set back since: then the windows that end from now on are not."""
        known = self._ledger.decisions.considered(self._model)
        if known is None or known < credible_before(now):
            self._set_back_at = None
            return known
        self._set_back_at = self._set_back_at or now
        return self._set_back_at

    def _in_the_newest_again(self, before: datetime) -> Iterator[Call]:
        """What it calls for and did not before: rows or labels that came since may have had it
        judged again. Older ones are history by then."""
        report = next(newest_reports(self._ledger, self._model, before=before))
        if (sizes := _sizes(report.drift, report.performance)) == self._sizes:
            return
        self._sizes = sizes
        trigger = _trigger_in(report, self._standard())
        past = self._journal.all("trigger")
        called = [(cause_of(each), each.evidence.get("window")) for each in past]
        if trigger is not None and (trigger.cause, str(report.window)) not in called:
            yield Call(trigger)

    def _standard(self) -> Standard:
        champion = self._ledger.registry.resolve(f"{self._model}@champion")
        settings = self._workspace.settings
        return Standard(
            version=str(champion.version),
            loss=Bundle.of_version(self._workspace.store, champion).profile.capped_loss,
            retrain=settings.retrain,
            drift=settings.monitor.drift,
        )

    def _tell_recoveries(self, report: WindowReport, standard: Standard, now: datetime) -> None:
        """Before the window counts as considered: what a kill leaves out, the next look tells."""
        alarms = self._ledger.watches.alarms(self._model, version=standard.version)
        left = causes = open_causes(self._journal.all())
        for cause in causes:
            earlier = newest_reports(self._ledger, self._model, before=report.window.end)
            if windows := calm_windows(cause, chain([report], earlier), alarms, standard):
                left = tuple(each for each in left if each != cause)
                told = [str(window) for window in windows]
                self._journal.add(
                    RECOVERY,
                    f"{cause} over",
                    f"{cause} of {standard.version} calls for nothing any more, in "
                    + " and ".join(told),
                    {"cause": cause, "windows": told, "left": list(left)},
                    now,
                )

    def _tell_wild_labels(self, report: WindowReport, version: str, now: datetime) -> None:
        """Of every window with too many, once; and of the first after these that has few."""
        if (said := said_of_labels(report, version)) is None:
            return
        past = self._journal.all(LABELS)
        is_told = bool(past) and past[-1].evidence["window"] == str(report.window)
        was_tame = not past or past[-1].outcome == TAME
        if not is_told and not (was_tame and said.outcome == TAME):
            self._journal.add(LABELS, said.outcome, said.why, said.evidence, now)

    def _warn_of_few_rows(self, report: WindowReport, version: str) -> None:
        num_rows = unjudged_rows(self._ledger, report, version)
        min_rows = self._workspace.settings.monitor.drift.min_rows
        if 0 < num_rows < min_rows:
            _logger.warning(
                "drift of %s %s is not judged in %s, and calls for no new model: it has %d rows, "
                "monitor.drift.min_rows is %d; take longer windows, or set that lower",
                self._model,
                version,
                report.window,
                num_rows,
                min_rows,
            )


def _trigger_in(report: WindowReport, standard: Standard) -> Trigger | None:
    return find_trigger(standard.retrain, report, standard.version, standard.loss)


def _sizes(drift: Sequence[Drift], performance: Sequence[Performance]) -> list[int]:
    """How many rows each finding of a window was made from: others where it was judged again."""
    return sorted([*(row.num_rows for row in drift), *(row.num_rows for row in performance)])
