"""The challenger that a trigger called for: trained beside everything else, and judged once.

begin(trigger) ─▶ a thread makes it ─▶ judge(now) ─▶ gate: passed or refused
                         │ fails
                         └─ waits ─▶ try_again(now), see `attempts`
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime

from raymlops.config import redact
from raymlops.errors import RaymlopsError
from raymlops.ledger import Decision
from raymlops.ledger.patience import is_away
from raymlops.operate.attempts import (
    Attempt,
    may_pass,
    newest_attempt,
    told_of,
    wait_after,
)
from raymlops.operate.challenger import Challenger, judge_challenger
from raymlops.operate.journal import Journal
from raymlops.operate.workspace import Workspace

PASSED = "passed"
_OPERATOR_ENDED = (
    "the operator was stopped, or killed, before its challenger was judged; where that takes the "
    "memory of the machine, the kernel's log says so"
)

_logger = logging.getLogger(__name__)


class Retraining:
    """One training at a time; `make` trains and registers with what is known at an event time."""

    def __init__(
        self, workspace: Workspace, journal: Journal, make: Callable[[datetime], Challenger]
    ) -> None:
        self._workspace = workspace
        self._journal = journal
        self._make = make
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="raymlops-train")
        self._training: Future[Challenger] | None = None

    @property
    def is_running(self) -> bool:
        return self._training is not None and not self._training.done()

    @property
    def is_done(self) -> bool:
        """Whether there is something to judge."""
        return self._training is not None and self._training.done()

    @property
    def obstacle(self) -> str | None:
        """Why no other can begin."""
        if self._training is not None:
            return "a challenger is being trained already"
        if self._newest_attempt() is not None:
            return "the training of a challenger has failed, and is tried again"
        return None

    def wait(self, timeout_s: float) -> None:
        """Returns once nothing is being trained, or after `timeout_s`."""
        if self._training is not None:
            wait([self._training], timeout=timeout_s)

    def close(self, *, wait: bool) -> None:
        """Begins nothing more, and waits for what is under way if `wait`."""
        self._threads.shutdown(wait=wait, cancel_futures=True)

    def begin(self, trigger: Decision) -> None:
        model = self._workspace.model
        _logger.info("training a challenger for %s: %s", model, trigger.why)
        self._training = self._threads.submit(self._make, _time_of(trigger))

    def go_on(self) -> None:
        """After an operator that died: writes down that it did so in its attempt, and begins the
        next at once."""
        attempt = self._newest_attempt()
        if attempt is None or attempt.again_at is not None:
            return
        now = _time_of(attempt.trigger)
        again_at = None if wait_after(attempt.number) is None else now
        self._fail(attempt, _OPERATOR_ENDED, now, again_at=again_at)
        if again_at is not None:
            self._begin_after(attempt, now)

    def try_again(self, now: datetime) -> None:
        """Begins the next attempt where that is due."""
        attempt = self._newest_attempt()
        if attempt is not None and attempt.is_over(now):
            self._begin_after(attempt, now)

    def judge(self, now: datetime) -> Decision | None:
        """Holds what `is_done` against the champion; returns the gate that it passed, if it did.

        Raises:
            LedgerError, UnavailableError, ClusterError: ledger or store, or the way to them, are
                away; the next look judges again.
        """
        assert self._training is not None, "there is something to judge"
        failure = self._training.exception()
        try:
            challenger = self._training.result()
            verdict = judge_challenger(self._workspace, challenger)
        except Exception as error:  # an unanswered trigger would be trained for again and again
            if failure is None and is_away(error):
                raise
            self._give_up(error, now, may_be_tried=failure is not None and may_pass(error))
            self._training = None
            return None
        outcome = f"{challenger.version.version} {PASSED if verdict.passed else 'refused'}"
        gate = self._journal.add("gate", outcome, verdict.why, verdict.evidence, now)
        self._training = None  # only now: a verdict that could not be written is given again
        return gate if verdict.passed else None

    def _give_up(self, error: Exception, now: datetime, *, may_be_tried: bool) -> None:
        if not isinstance(error, RaymlopsError):
            model = self._workspace.model
            _logger.error("no challenger of %s could be made", model, exc_info=error)
        attempt = self._newest_attempt()
        assert attempt is not None, "the trigger of what is trained has no gate yet"
        pause = wait_after(attempt.number) if may_be_tried else None
        again_at = None if pause is None else now + pause
        self._fail(attempt, redact(str(error)), now, again_at=again_at)

    def _begin_after(self, attempt: Attempt, now: datetime) -> None:
        number = attempt.number + 1
        why = f"why attempt {attempt.number} failed may have passed: {attempt.trigger.why}"
        self._journal.add("training", f"attempt {number}", why, told_of(number), now)
        self.begin(attempt.trigger)

    def _fail(
        self, attempt: Attempt, why: str, now: datetime, *, again_at: datetime | None
    ) -> None:
        """Writes down that it failed: it waits for the next one, or is refused where there is
        none."""
        number = attempt.number
        if again_at is not None:
            told = told_of(number, again_at)
            self._journal.add("training", f"attempt {number} failed", why, told, now)
            return
        tried = f" in {number} attempts" if number > 1 else ""
        refusal = f"no challenger could be made and judged{tried}: {why}"
        self._journal.add("gate", "refused", refusal, {}, now)

    def _newest_attempt(self) -> Attempt | None:
        return newest_attempt(self._journal.own())


def _time_of(trigger: Decision) -> datetime:
    assert trigger.event_time is not None, "the operator's decisions have an event time"
    return trigger.event_time
