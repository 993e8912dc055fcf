"""The loop that closes the circle: judge windows, retrain, gate, release, all by itself.

    tick(now):  a release runs          -> it takes its next step
                a challenger is trained -> the gate releases it or refuses it
                its training failed     -> it is tried again after a while, not for ever
                one passed, and no more -> its release begins: an operator died in between
                none of these           -> traffic follows the champion alias
                a window closed badly,
                or errors rose          -> a challenger is trained, beside everything else

`now` is event time: a replay passes the time it has reached, a live system the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

from raymlops.config import differences, redact
from raymlops.coordination import Lease
from raymlops.errors import RaymlopsError, UnservableError
from raymlops.ledger import ConceptAlarm, Decision, Drift, Performance, Release
from raymlops.models import Bundle
from raymlops.monitor import WindowReport, read_reports, unjudged_rows
from raymlops.operate.attempts import (
    Attempt,
    is_away,
    may_pass,
    newest_attempt,
    told_of,
    wait_after,
)
from raymlops.operate.challenger import Challenger, judge_challenger
from raymlops.operate.recoveries import KIND as RECOVERY
from raymlops.operate.recoveries import Standard, calm_windows, open_causes
from raymlops.operate.triggers import (
    Trigger,
    cause_of,
    concept_trigger,
    find_trigger,
    last_considered,
    suppressed_because,
)
from raymlops.operate.workspace import Workspace
from raymlops.release import ReleaseController
from raymlops.release.controller import Publish, policy_of
from raymlops.serve import TrafficTable

WHO = "raymlops operator"
_PASSED = "passed"
_OPERATOR_ENDED = (
    "the operator was stopped, or killed, before its challenger was judged; where that takes the "
    "memory of the machine, the kernel's log says so"
)

_logger = logging.getLogger(__name__)


class Monitor(Protocol):
    """The part of `DriftMonitor` the operator needs."""

    def advance(self, model: str, watermark: datetime) -> tuple[WindowReport, ...]: ...

    def watch(self, model: str) -> tuple[ConceptAlarm, ...]: ...


class Operator:
    """Watches one model of a workspace; holds the model's lock, so there is one a model.

    What it writes carries the lock's token: an operator that slept while another took over is
    refused at its next write, or before it publishes.

    `make_challenger` trains and registers with what is known at an event time; it runs in a thread,
    so that releases and windows never wait for it. What the operator was doing lies in the ledger:
    one that died is replaced by one that goes on at the same step.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        monitor: Monitor,
        make_challenger: Callable[[datetime], Challenger],
        publish: Publish,
    ) -> None:
        self._workspace = workspace
        self._model = workspace.model
        self._ledger = workspace.ledger
        self._monitor = monitor
        self._make_challenger = make_challenger
        self._publish_unfenced = publish
        self._controller = ReleaseController(
            self._ledger, workspace.settings.release, self._publish
        )
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="raymlops-train")
        self._training: Future[Challenger] | None = None
        self._lock = workspace.coordinator.hold(lock_name(self._model), timeout_s=5.0)
        self._lease: Lease | None = None
        self._sizes: list[int] = []  # of what was found in the newest window
        self._held = ExitStack()

    def __enter__(self) -> Operator:
        """Raises CoordinationError when another operator watches this model."""
        with ExitStack() as stack, ExitStack() as fence:
            self._lease = stack.enter_context(self._lock)
            fence.enter_context(self._fenced())
            if (release := self._ledger.releases.running(self._model)) is not None:
                self._warn_of_its_policy(release)
                self._controller.resume(release)
            attempt = self._newest_attempt()
            if attempt is not None and attempt.again_at is None:
                self._go_on_after(attempt)
            self._held = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=kind is None, cancel_futures=True)
        self._held.close()

    @property
    def is_training(self) -> bool:
        """Whether a challenger is being trained right now."""
        return self._training is not None and not self._training.done()

    def wait_for_training(self, timeout_s: float) -> None:
        """Returns once nothing is being trained, or after `timeout_s`."""
        if self._training is not None:
            wait([self._training], timeout=timeout_s)

    def tick(self, now: datetime) -> tuple[Decision, ...]:
        """Does what is due at event time `now`; returns the decisions that led to.

        Raises:
            StaleLeaseError: another operator has taken over.
        """
        with self._fenced():
            return self._tick(now)

    def _tick(self, now: datetime) -> tuple[Decision, ...]:
        before = self._ledger.decisions.list(model=self._model)
        if (release := self._ledger.releases.running(self._model)) is not None:
            self._controller.step(release, now=now, who=WHO)
        elif self._training is not None and self._training.done():
            self._gate(self._training, now)
        elif (gate := _unreleased_gate(before)) is not None:
            self._release(gate, now)
        else:
            self._follow_alias()
        self._try_again(now)
        self._monitor.advance(self._model, now)
        self._consider_windows(now)
        self._monitor.watch(self._model)
        self._consider_alarms(now)
        return tuple(self._ledger.decisions.list(model=self._model)[len(before) :])

    def _warn_of_its_policy(self, release: Release) -> None:
        began, wanted = policy_of(release).to_dict(), self._workspace.settings.release.to_dict()
        if began != wanted:
            _logger.warning(
                "release %d of %s %s goes on by what it began with (%s), and not by the settings "
                "of now; to end it: `raymlops rollback %s --why ...`",
                release.id,
                self._model,
                release.challenger,
                ", ".join(differences(began, wanted)),
                self._model,
            )

    def _follow_alias(self) -> None:
        """The alias is what is wanted: traffic follows it, also when a person has moved it.

        A version that cannot be served gets no traffic, and is tried again at the next look: a
        replica that is started meanwhile has to load what the table names.
        """
        published = self._ledger.releases.published(self._model)
        champion = str(self._ledger.registry.alias(self._model, "champion"))
        wanted = TrafficTable.champion(self._model, champion)
        if published is None or (former := TrafficTable.from_dict(published[1])) == wanted:
            return
        try:
            self._publish(wanted)
        except UnservableError:
            self._publish(former)
            raise

    def _consider_windows(self, now: datetime) -> None:
        """Those judged and never considered, in order: the operator that the monitor told of them
        may be dead."""
        known = self._ledger.decisions.considered(self._model)
        last = self._ledger.observations.last_judged(self._model)
        if last is None:
            return
        if known is not None and last <= known:
            if (trigger := self._consider_again()) is not None:
                self._consider(trigger, now)
            return
        reports = read_reports(self._ledger, self._model)
        for number, report in enumerate(reports, start=1):
            if known is None or report.window.end > known:
                self._consider_window(reports[:number], now)

    def _consider_window(self, reports: Sequence[WindowReport], now: datetime) -> None:
        """The last of all windows until then."""
        report, standard = reports[-1], self._standard()
        self._sizes = _sizes(report.drift, report.performance)
        if "drift" in standard.retrain.on:
            self._warn_of_few_rows(report, standard.version)
        self._tell_recoveries(reports, standard, now)
        if (trigger := _trigger_in(report, standard)) is None:
            self._ledger.decisions.consider(self._model, report.window.end)
        else:
            self._consider(trigger, now, window_end=report.window.end)

    def _consider_again(self) -> Trigger | None:
        """What the newest window calls for and did not before: rows or labels that came since may
        have had it judged again. Older ones are history by then."""
        overview = self._ledger.overview
        drift = [row for row in overview.newest_drift() if row.model == self._model]
        measured = [row for row in overview.newest_performance() if row.model == self._model]
        if (sizes := _sizes(drift, measured)) == self._sizes:
            return None
        self._sizes = sizes
        report = read_reports(self._ledger, self._model)[-1]
        trigger = _trigger_in(report, self._standard())
        called = [(cause_of(each), each.evidence.get("window")) for each in self._triggers()]
        if trigger is None or (trigger.cause, str(report.window)) in called:
            return None
        return trigger

    def _standard(self) -> Standard:
        champion = self._ledger.registry.resolve(f"{self._model}@champion")
        settings = self._workspace.settings
        return Standard(
            version=str(champion.version),
            log_loss=Bundle.of_version(self._workspace.store, champion).profile.log_loss,
            retrain=settings.retrain,
            drift=settings.monitor.drift,
        )

    def _tell_recoveries(
        self, reports: Sequence[WindowReport], standard: Standard, now: datetime
    ) -> None:
        """Before the window counts as considered: what a kill leaves out, the next look tells."""
        past = self._ledger.decisions.list(model=self._model)
        alarms = self._ledger.watches.alarms(self._model, version=standard.version)
        left = causes = open_causes(past)
        for cause in causes:
            if windows := calm_windows(cause, reports, alarms, standard):
                left = tuple(each for each in left if each != cause)
                told = [str(window) for window in windows]
                self._decide(
                    RECOVERY,
                    f"{cause} over",
                    f"{cause} of {standard.version} calls for nothing any more, in "
                    + " and ".join(told),
                    {"cause": cause, "windows": told, "left": list(left)},
                    now,
                )

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

    def _consider_alarms(self, now: datetime) -> None:
        """Reads them from the ledger: the operator that the monitor told of one may be dead."""
        policy = self._workspace.settings.retrain
        if "concept" not in policy.on:
            return
        champion = self._ledger.registry.alias(self._model, "champion")
        known = last_considered(self._triggers())
        alarms = self._ledger.watches.alarms(self._model, version=str(champion), after=known)
        trigger = concept_trigger(policy, alarms)
        if trigger is not None:
            self._consider(trigger, now)

    def _consider(
        self, trigger: Trigger, now: datetime, *, window_end: datetime | None = None
    ) -> None:
        policy = self._workspace.settings.retrain
        past = [decision for decision in self._triggers() if decision.outcome == "retrain"]
        obstacle = self._busy_with() or suppressed_because(policy, past, now)
        decision = self._decide(
            "trigger",
            "retrain" if obstacle is None else "suppressed",
            trigger.why if obstacle is None else f"{trigger.why}; but {obstacle}",
            {"cause": trigger.cause, **trigger.evidence},
            now,
            window_end=window_end,
        )
        if obstacle is None:
            self._train(decision)

    def _train(self, trigger: Decision) -> None:
        _logger.info("training a challenger for %s: %s", self._model, trigger.why)
        self._training = self._threads.submit(self._make_fenced, _time_of(trigger))

    def _try_again(self, now: datetime) -> None:
        """Begins the next attempt of a training where that is due."""
        attempt = self._newest_attempt()
        if attempt is not None and attempt.is_over(now):
            self._begin_after(attempt, now)

    def _go_on_after(self, attempt: Attempt) -> None:
        """Writes down that an operator died in that attempt, and begins the next at once."""
        now = _time_of(attempt.trigger)
        again_at = None if wait_after(attempt.number) is None else now
        self._fail(attempt, _OPERATOR_ENDED, now, again_at=again_at)
        if again_at is not None:
            self._begin_after(attempt, now)

    def _begin_after(self, attempt: Attempt, now: datetime) -> None:
        number = attempt.number + 1
        why = f"why attempt {attempt.number} failed may have passed: {attempt.trigger.why}"
        self._decide("training", f"attempt {number}", why, told_of(number), now)
        self._train(attempt.trigger)

    def _fail(
        self, attempt: Attempt, why: str, now: datetime, *, again_at: datetime | None
    ) -> None:
        """Writes down that it failed: it waits for the next one, or is refused where there is
        none."""
        number = attempt.number
        if again_at is not None:
            self._decide(
                "training", f"attempt {number} failed", why, told_of(number, again_at), now
            )
            return
        tried = f" in {number} attempts" if number > 1 else ""
        refusal = f"no challenger could be made and judged{tried}: {why}"
        self._decide("gate", "refused", refusal, {}, now)

    def _make_fenced(self, known_at: datetime) -> Challenger:
        with self._fenced():  # a thread does not inherit the fence of the one that started it
            return self._make_challenger(known_at)

    def _publish(self, table: TrafficTable) -> None:
        with self._fenced():
            self._publish_unfenced(table)

    def _fenced(self) -> AbstractContextManager[None]:
        assert self._lease is not None, "an operator acts inside its `with` block"
        return self._ledger.fenced(self._lease)

    def _gate(self, training: Future[Challenger], now: datetime) -> None:
        try:
            challenger = training.result()
            verdict = judge_challenger(self._workspace, challenger)
        except Exception as error:  # an unanswered trigger would be trained for again and again
            if training.exception() is None and is_away(error):
                raise  # the next look judges again
            if not isinstance(error, RaymlopsError):
                _logger.exception("no challenger of %s could be made", self._model)
            attempt = self._newest_attempt()
            assert attempt is not None, "the trigger of what is trained has no gate yet"
            passes = training.exception() is not None and may_pass(error)
            wait = wait_after(attempt.number) if passes else None
            again_at = None if wait is None else now + wait
            self._fail(attempt, redact(str(error)), now, again_at=again_at)
            self._training = None
            return
        outcome = f"{challenger.version.version} {_PASSED if verdict.passed else 'refused'}"
        gate = self._decide("gate", outcome, verdict.why, verdict.evidence, now)
        self._training = None  # only now: a verdict that could not be written is given again
        if verdict.passed:
            self._release(gate, now)

    def _release(self, gate: Decision, now: datetime) -> None:
        passed = gate.outcome.removesuffix(_PASSED).strip()
        version = self._ledger.registry.resolve(f"{self._model}@{passed}")
        self._controller.start(version, now=now, who=WHO, why=gate.why)

    def _busy_with(self) -> str | None:
        if self._training is not None:
            return "a challenger is being trained already"
        if self._newest_attempt() is not None:
            return "the training of a challenger has failed, and is tried again"
        if (release := self._ledger.releases.running(self._model)) is not None:
            return f"the release of {release.challenger} is not over"
        return None

    def _newest_attempt(self) -> Attempt | None:
        return newest_attempt(_own(self._ledger.decisions.list(model=self._model)))

    def _triggers(self) -> list[Decision]:
        return list(self._ledger.decisions.list(model=self._model, kind="trigger"))

    def _decide(
        self,
        kind: str,
        outcome: str,
        why: str,
        evidence: Mapping[str, Any],
        now: datetime,
        *,
        window_end: datetime | None = None,
    ) -> Decision:
        return self._ledger.decisions.add(
            model=self._model,
            kind=kind,
            outcome=outcome,
            who=WHO,
            why=why,
            evidence=evidence,
            event_time=now,
            window_end=window_end,
        )


def lock_name(model: str) -> str:
    """What the operator that watches a model holds."""
    return f"operator-{model}"


def _trigger_in(report: WindowReport, standard: Standard) -> Trigger | None:
    return find_trigger(standard.retrain, report, standard.version, standard.log_loss)


def _sizes(drift: Sequence[Drift], performance: Sequence[Performance]) -> list[int]:
    """How many rows each finding of a window was made from: others where it was judged again."""
    return sorted([*(row.num_rows for row in drift), *(row.num_rows for row in performance)])


def _unreleased_gate(decisions: Sequence[Decision]) -> Decision | None:
    """The operator's gate that a challenger passed and nothing came after: no release of it, no
    other champion and no other challenger."""
    for decision in reversed(decisions):
        match decision.kind, decision.outcome.split():
            case "gate", [*_, said] if _own([decision]):
                return decision if said == _PASSED else None
            case ("release", _) | ("alias", ["champion", *_]) | ("trigger", ["retrain"]):
                return None
    return None


def _own(decisions: Sequence[Decision]) -> list[Decision]:
    """Those of operators: a challenger that a person's job found to be better waits for that
    person."""
    return [decision for decision in decisions if decision.who == WHO]


def _time_of(trigger: Decision) -> datetime:
    assert trigger.event_time is not None, "the operator's decisions have an event time"
    return trigger.event_time
