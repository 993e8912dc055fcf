"""The monitor: gathers what replicas saw and labels that arrive, and judges windows once closed."""

from __future__ import annotations

import contextlib
import logging
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import chain

from raymlops.errors import RefusedError
from raymlops.ledger import ConceptAlarm, JoinPolicy, Labels, TapMessage, open_ledger
from raymlops.monitor.bundles import Bundles
from raymlops.monitor.concept import Baseline, ConceptPolicy, watch
from raymlops.monitor.drift import DriftPolicy
from raymlops.monitor.group_commit import GroupCommit
from raymlops.monitor.judging import Judge, WindowReport, newest_reports, read_reports
from raymlops.monitor.late import Days, decide_again, late_in
from raymlops.monitor.looks import judged_again
from raymlops.monitor.windows import MOST_SKEW, Window, WindowPolicy, credible_before, due
from raymlops.serve.tap import TapSummary
from raymlops.storage import Store

_WATCH_ROWS = 4096  # requests that are shown to the detectors at a time
_MOST_TIMES = 2  # the same rows of a window are judged again: the first may have been killed

_logger = logging.getLogger(__name__)


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
        code: str | None = None,
    ) -> None:
        self._made_from = {
            "code": code,
            "ledger_url": ledger_url,
            "store_uri": store_uri,
            "windows": windows,
            "drift": drift,
            "concept": concept,
            "joins": joins,
            "slice_by": slice_by,
        }
        self._ledger = open_ledger(ledger_url)
        self._windows = windows
        self._concept = concept
        self._joins = joins
        self._calls = GroupCommit[Sequence[TapMessage]](self._add_taps)
        self._judging = threading.Lock()
        self._min_rows = drift.min_rows
        self._looked_for_late: dict[str, date] = {}
        self._is_ahead = False
        store = Store(store_uri)
        self._bundles = Bundles(self._ledger, store)
        self._judge = Judge(self._ledger, store, self._bundles, drift=drift, slice_by=slice_by)

    def made_from(self) -> Mapping[str, object]:
        """The arguments it was made from: one with others may take its place at any time."""
        return self._made_from

    def observe(self, *messages: bytes | TapSummary) -> int:
        """Merges one or more summaries of a replica, each as it is or as bytes, and returns the
        sequence number of the last: up to that one none need be sent again.

        A replica has one call under way, which begins with its first summary that is not
        acknowledged: one that overtakes an earlier one would make that look like a repetition.

        Raises:
            RefusedError: one of them can never be stored, and none was.
        """
        with _never_stored_as_refused():
            summaries = [
                TapSummary.from_bytes(message) if isinstance(message, bytes) else message
                for message in messages
            ]
        self._calls.add(
            [
                TapMessage(each.replica, each.sequence, each.panes, each.predictions)
                for each in summaries
            ]
        )
        return summaries[-1].sequence

    def label(self, labels: Sequence[Labels]) -> int:
        """Stores labels and returns how many requests had none before."""
        return self._ledger.observations.add_labels(labels, self._joins)

    def watch(self, model: str) -> tuple[ConceptAlarm, ...]:
        """Shows the detectors what has joined since the last time; returns the alarms they raise.

        They know right from wrong, so older versions, of whose numbers nobody kept how far they may
        be off, are watched by windows alone.
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
                # Each version once: those of a thousand labels in a row may be of many.
                versions = {each.version for _, each in log}
                telling = {each for each in versions if self._tells_errors(model, each)}
                outcomes = [each for _, each in log if each.version in telling]
                known = partial(self._baseline, model)
                state, alarms = watch(self._concept, model, outcomes, state, known)
                if self._ledger.watches.advance(
                    model, start=start, end=log[-1][0], state=state, alarms=alarms
                ):
                    found += alarms

    def advance(self, model: str, watermark: datetime) -> tuple[WindowReport, ...]:
        """Judges every window with traffic that has closed by `watermark`, and returns what was
        found.

        A `watermark` ahead of this machine's clock is that of a machine whose clock is wrong, or
        this one's is: it is taken for now, since a window that closes early is judged by a part of
        its rows, and one that closes late by all of them. What was judged of windows yet to come,
        by a clock that was set back since, does not count: they, and those before them, are judged
        when they close.

        Each window is judged once, in order, and those of which much came late again, once a day of
        event time at most. What is found takes the place of what was; to look for drift again is a
        decision. A caller that was cut off before it got the answer reads the same reports from the
        ledger with `read_reports`.
        """
        watermark = self._not_ahead(model, watermark)
        with self._judging:
            observations = self._ledger.observations
            judged = observations.last_judged(model, before=credible_before(watermark))
            days = observations.days(model)
            if not days:
                return ()
            since = judged or datetime.combine(days[0], time(), UTC)
            found = tuple(
                self._judge.judge(model, window)
                for window in due(self._windows, since=since, watermark=watermark)
                if _holds_any(window, days)
            )
            if judged is not None and self._looked_for_late.get(model) != watermark.date():
                self._judge_late(model, days, judged, watermark)
                self._looked_for_late[model] = watermark.date()
            return found

    def _not_ahead(self, model: str, watermark: datetime) -> datetime:
        now = datetime.now(UTC)
        was_ahead, self._is_ahead = self._is_ahead, watermark - now > MOST_SKEW
        if self._is_ahead and not was_ahead:
            _logger.warning(
                "windows of %s are closed by the monitor's clock (%s), not by that of who watches, "
                "which is ahead of it (%s): set the one that is wrong",
                model,
                now.isoformat(timespec="seconds"),
                watermark.isoformat(timespec="seconds"),
            )
        return now if self._is_ahead else watermark

    def _judge_late(
        self, model: str, days: Sequence[date], judged: datetime, watermark: datetime
    ) -> None:
        """Windows before `judged` that were passed over without traffic and have some now, and
        those of which much came since; for as long as labels may come."""
        oldest = watermark - timedelta(days=self._joins.max_age_days)
        again = judged_again(self._ledger, model)
        complete = judged + self._windows.label_delay
        passed = due(self._windows, since=oldest, watermark=complete)
        first = min([oldest, *(window.start for window in passed)])
        reports = read_reports(self._ledger, model, after=first, until=judged)
        for window in passed:
            if _holds_any(window, days) and not _meets_any(window, reports):
                self._judge.judge(model, window)
        now = Days(self._ledger, model)
        for report in reports:
            if report.window.end <= oldest:
                continue
            late = late_in(self._ledger, report, now, min_rows=self._min_rows)
            times = sum(decision.evidence == late.evidence for decision in again)
            look_at = late.versions if times < _MOST_TIMES else ()
            if look_at:
                decide_again(self._ledger, model, late, watermark)
            if look_at or late.has_labels:
                self._judge.judge(model, report.window, again=look_at)

    def status(self, model: str) -> MonitorStatus:
        observations = self._ledger.observations
        return MonitorStatus(
            model=model,
            num_predictions=observations.count_predictions(model),
            num_windows=observations.count_judged(model),
            latest=next(
                newest_reports(self._ledger, model, before=credible_before(datetime.now(UTC))), None
            ),
            joins=observations.join_counts(model),
            num_alarms=len(self._ledger.watches.alarms(model)),
        )

    def _add_taps(self, calls: Sequence[Sequence[TapMessage]]) -> None:
        with _never_stored_as_refused():
            self._ledger.observations.add_taps(list(chain.from_iterable(calls)), self._joins)

    def _baseline(self, model: str, version: str) -> Baseline:
        bundle = self._bundles.of(model, version)
        if (tolerance := bundle.profile.tolerance) is not None:
            return Baseline(
                threshold=tolerance,
                error_rate=bundle.profile.far_off_rate,
                is_regression=bundle.postprocessing.is_regression,
                is_ranking=bundle.postprocessing.is_ranking,
            )
        known = bundle.profile.reliability
        return Baseline(
            threshold=bundle.postprocessing.threshold,
            error_rate=None if known is None else known.error_rate,
            classes=bundle.postprocessing.classes,
        )

    def _tells_errors(self, model: str, version: str) -> bool:
        bundle = self._bundles.of(model, version)
        return bundle.profile.tolerance is not None or not bundle.postprocessing.is_regression


@contextlib.contextmanager
def _never_stored_as_refused() -> Iterator[None]:
    """Has what is wrong with a message itself, and so will be each time, raise RefusedError."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise RefusedError(
            f"a message can never be stored: {type(error).__name__}: {error}"
        ) from error


def _holds_any(window: Window, days: Sequence[date]) -> bool:
    """Whether one of `days`, in order, lies in the window: what clients tell of the time of an
    event may lie years apart, with nothing to judge in between."""
    first = bisect_left(days, window.start.date())
    return first < len(days) and days[first] < window.end.date()


def _meets_any(window: Window, reports: Iterable[WindowReport]) -> bool:
    """Whether some of it was judged, be it in windows of another unit."""
    return any(
        report.window.start < window.end and window.start < report.window.end for report in reports
    )
