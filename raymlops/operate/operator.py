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
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol

from raymlops.config import differences, redact
from raymlops.coordination import Lease
from raymlops.errors import CoordinationError, StaleLeaseError, UnservableError
from raymlops.ledger import ConceptAlarm, Decision, Release
from raymlops.monitor import WindowReport
from raymlops.operate.challenger import Challenger
from raymlops.operate.findings import Call, Findings
from raymlops.operate.journal import WHO, Journal, is_own
from raymlops.operate.retraining import PASSED, Retraining
from raymlops.operate.triggers import suppressed_because
from raymlops.operate.workspace import Workspace
from raymlops.release import ReleaseController
from raymlops.release.controller import Publish, policy_of
from raymlops.serve import TrafficTable

_TRIED_AGAIN_AFTER = timedelta(minutes=15)
"""Of a champion that no replica could serve: what lacked, such as a file, may be there then."""

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
    so that releases and windows never wait for it. None where somebody else makes them: what calls
    for one is told all the same. What the operator was doing lies in the ledger:
    one that died is replaced by one that goes on at the same step.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        monitor: Monitor,
        make_challenger: Callable[[datetime], Challenger] | None,
        publish: Publish,
    ) -> None:
        self._workspace = workspace
        self._model = workspace.model
        self._ledger = workspace.ledger
        self._monitor = monitor
        self._make_challenger = make_challenger
        self._publish_unfenced = publish
        self._controller = ReleaseController(
            self._ledger, workspace.store, workspace.settings.release, self._publish
        )
        self._journal = Journal(self._ledger, self._model)
        self._findings = Findings(workspace, self._journal)
        self._retraining = Retraining(workspace, self._journal, self._make_fenced)
        self._lock = workspace.coordinator.hold(lock_name(self._model), timeout_s=5.0)
        self._refused: tuple[str, datetime] | None = None
        self._lease: Lease | None = None
        self._held = ExitStack()

    def __enter__(self) -> Operator:
        """Raises CoordinationError when another operator watches this model."""
        with ExitStack() as stack, ExitStack() as fence:
            self._lease = stack.enter_context(self._lock)
            fence.enter_context(self._fenced())
            if (release := self._ledger.releases.running(self._model)) is not None:
                self._warn_of_its_policy(release)
                self._controller.resume(release)
            if self._make_challenger is not None:
                self._retraining.go_on()
            self._held = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._retraining.close(wait=kind is None)
        self._held.close()

    @property
    def is_training(self) -> bool:
        """Whether a challenger is being trained right now."""
        return self._retraining.is_running

    def wait_for_training(self, timeout_s: float) -> None:
        """Returns once nothing is being trained, or after `timeout_s`."""
        self._retraining.wait(timeout_s)

    def tick(self, now: datetime) -> tuple[Decision, ...]:
        """Does what is due at event time `now`; returns the decisions that led to.

        Raises:
            StaleLeaseError: another operator has taken over.
        """
        self._require_no_successor()
        with self._fenced():
            return self._tick(now)

    def _require_no_successor(self) -> None:
        """Raises StaleLeaseError where the lock was lost, as with a session of ZooKeeper, and
        another operator holds it: a look that writes nothing is not refused by the ledger."""
        assert self._lease is not None, "an operator acts inside its `with` block"
        if not self._lease.wait_lost(0.0):
            return
        try:
            holder = self._workspace.coordinator.lock(self._lease.name).holder()
        except CoordinationError as error:  # the ledger refuses it once there is a successor
            _logger.warning("who holds the lock '%s' now is unknown: %s", self._lease.name, error)
            return
        if holder is not None and holder.token > self._lease.token:
            raise StaleLeaseError(
                f"the lock '{self._lease.name}' of token {self._lease.token} was lost, and "
                f"{holder.owner} has held it since, under token {holder.token}: that operator goes "
                "on, this one ends"
            )

    def _tick(self, now: datetime) -> tuple[Decision, ...]:
        before = self._journal.all()
        if (release := self._ledger.releases.running(self._model)) is not None:
            self._controller.step(release, now=now, who=WHO)
        elif self._retraining.is_done:
            if (gate := self._retraining.judge(now)) is not None:
                self._release(gate, now)
        elif (gate := _unreleased_gate(before)) is not None:
            self._release(gate, now)
        else:
            self._follow_alias(now)
        if self._make_challenger is not None:
            self._retraining.try_again(now)
        self._monitor.advance(self._model, now)
        for call in self._findings.in_windows(now):
            self._consider(call, now)
        self._monitor.watch(self._model)
        for call in self._findings.in_alarms():
            self._consider(call, now)
        return tuple(self._journal.all()[len(before) :])

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

    def _follow_alias(self, now: datetime) -> None:
        """The alias is what is wanted: traffic follows it, also when a person has moved it.

        A version that cannot be served gets no traffic, since a replica that is started meanwhile
        has to load what the table names. It is tried again, but not at every look: replicas load
        it each time, and may unload what serves for that.
        """
        published = self._ledger.releases.published(self._model)
        champion = str(self._ledger.registry.alias(self._model, "champion"))
        wanted = TrafficTable.champion(self._model, champion)
        if published is None or (former := TrafficTable.from_dict(published[1])) == wanted:
            self._refused = None
            return
        if self._refused is not None:
            version, since = self._refused
            if version == champion and timedelta(0) <= now - since < _TRIED_AGAIN_AFTER:
                return
        try:
            self._publish(wanted)
        except UnservableError as error:
            self._publish(former)
            self._refused = (champion, now)
            _logger.error(
                "%s %s is the champion and cannot be served, so %s goes on; it is tried again in "
                "%g minutes: %s",
                self._model,
                champion,
                ", ".join(former.versions),
                _TRIED_AGAIN_AFTER.total_seconds() / 60,
                redact(str(error)),
            )

    def _consider(self, call: Call, now: datetime) -> None:
        trigger, policy = call.trigger, self._workspace.settings.retrain
        triggers = self._journal.all("trigger")
        past = [decision for decision in triggers if decision.outcome == "retrain"]
        obstacle = self._obstacle() or suppressed_because(policy, past, now)
        decision = self._journal.add(
            "trigger",
            "retrain" if obstacle is None else "suppressed",
            trigger.why if obstacle is None else f"{trigger.why}; but {obstacle}",
            {"cause": trigger.cause, **trigger.evidence},
            now,
            window_end=call.window_end,
        )
        if obstacle is None:
            self._retraining.begin(decision)

    def _obstacle(self) -> str | None:
        if self._make_challenger is None:
            return (
                "its challengers are made elsewhere: train one, register it, and "
                f"`raymlops release {self._model}@VERSION`"
            )
        if (obstacle := self._retraining.obstacle) is not None:
            return obstacle
        if (release := self._ledger.releases.running(self._model)) is not None:
            return f"the release of {release.challenger} is not over"
        return None

    def _make_fenced(self, known_at: datetime) -> Challenger:
        assert self._make_challenger is not None, "nothing is begun without"
        with self._fenced():  # a thread does not inherit the fence of the one that started it
            return self._make_challenger(known_at)

    def _publish(self, table: TrafficTable) -> None:
        with self._fenced():
            self._publish_unfenced(table)

    def _fenced(self) -> AbstractContextManager[None]:
        assert self._lease is not None, "an operator acts inside its `with` block"
        return self._ledger.fenced(self._lease)

    def _release(self, gate: Decision, now: datetime) -> None:
        passed = gate.outcome.removesuffix(PASSED).strip()
        version = self._ledger.registry.resolve(f"{self._model}@{passed}")
        self._controller.start(version, now=now, who=WHO, why=gate.why)


def lock_name(model: str) -> str:
    """What the operator that watches a model holds."""
    return f"operator-{model}"


def _unreleased_gate(decisions: Sequence[Decision]) -> Decision | None:
    """The operator's gate that a challenger passed and nothing came after: no release of it, no
    other champion and no other challenger."""
    for decision in reversed(decisions):
        match decision.kind, decision.outcome.split():
            case "gate", [*_, said] if is_own(decision):
                return decision if said == PASSED else None
            case ("release", _) | ("alias", ["champion", *_]) | ("trigger", ["retrain"]):
                return None
    return None
