"""One day of a served model after the other: traffic, labels, and what the operator decides."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from raymlops.demo.narrator import Narrator
from raymlops.demo.replay import Call
from raymlops.demo.traffic import Traffic
from raymlops.errors import RaymlopsError
from raymlops.monitor import due, read_reports
from raymlops.operate import Operator, Workspace

# A challenger is trained while traffic goes on. The replay gives it this many days of event time,
# slowly, so that the story does not depend on how fast the machine is.
_TRAINING_DAYS = 3
_TRAINING_TIMEOUT_S = 300.0

_SETTLE_TIMEOUT_S = 60.0
_POLL_S = 0.05


class Life:
    """`num_before` requests were answered before this life's traffic began."""

    def __init__(
        self,
        narrator: Narrator,
        workspace: Workspace,
        traffic: Traffic,
        operator: Operator,
        *,
        num_before: int,
    ) -> None:
        self._narrator = narrator
        self._ledger = workspace.ledger
        self._model = workspace.model
        self._windows = workspace.settings.monitor.windows
        self._traffic = traffic
        self._operator = operator
        self._num_before = num_before
        self._days_in_training = 0
        self._num_reports = 0

    def live(self, day: datetime, calls: list[Call]) -> None:
        """Sends the day's calls, delivers the labels known by its end, and lets time pass."""
        self._traffic.send(calls, slowly=lambda: self._operator.is_training)
        self.pass_to(day + timedelta(days=1))

    def finish(self, now: datetime) -> None:
        """Everything answered has been seen, the last labels arrive, the last window is judged."""
        self._settle()
        self.pass_to(now)

    def pass_to(self, now: datetime) -> None:
        """Event time reaches `now`: labels arrive, the operator does what is due."""
        self._traffic.deliver_labels(now)
        if self._days_in_training >= _TRAINING_DAYS:
            self._operator.wait_for_training(_TRAINING_TIMEOUT_S)
        if self._needs_everything(now):
            self._settle()
        # Whether a challenger is ready is asked once a day, at the end of its three.
        if 0 < self._days_in_training < _TRAINING_DAYS:
            self._days_in_training += 1
            return
        decisions = self._operator.tick(now)
        self._days_in_training = 1 if any(d.outcome == "retrain" for d in decisions) else 0
        reports = read_reports(self._ledger, self._model)
        for report in reports[self._num_reports :]:
            self._narrator.month(report)
        self._num_reports = len(reports)
        self._narrator.decisions(decisions)

    def _needs_everything(self, now: datetime) -> bool:
        """Whether a window is judged or a release steps now, on all that was seen until now."""
        yesterday = now - timedelta(days=1)
        closes = bool(
            due(self._windows, since=yesterday - self._windows.label_delay, watermark=now)
        )
        return closes or self._ledger.releases.running(self._model) is not None

    def _settle(self) -> None:
        """Waits until the tap has delivered every answered request: it is off their path."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        wanted = self._num_before + len(self._traffic.tally.latencies_s)
        while (seen := self._ledger.observations.count_predictions(self._model)) < wanted:
            if time.monotonic() > deadline:
                raise RaymlopsError(f"the monitor saw {seen} of {wanted} answered requests")
            time.sleep(_POLL_S)
