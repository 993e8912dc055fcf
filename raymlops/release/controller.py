"""Carries a release through its steps: reads evidence, asks the policy, publishes, writes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from raymlops.config import redact
from raymlops.data import Class, Profile
from raymlops.errors import ReleaseError, UnservableError
from raymlops.ledger import Ledger, ModelVersion, Outcomes, Release, Version
from raymlops.models import Bundle, Signature
from raymlops.monitor import FarCounts, difference, far_of_arms, held_to, loss_of, scored
from raymlops.release.callers import refused_callers
from raymlops.release.canary import (
    CANARY,
    CHAMPION,
    Act,
    Advance,
    CanaryPolicy,
    CanaryState,
    Evidence,
    Promote,
    RollBack,
    Wait,
    decide,
    table,
)
from raymlops.serve.traffic import TrafficTable
from raymlops.storage import Store

_STRATEGY = "canary"

Publish = Callable[[TrafficTable], None]
"""Makes all replicas follow a table; returns once they do."""


class ReleaseController:
    """Everything it knows lies in the ledger, so another controller can go on at the same step.
    From the store it reads how far off a model that says numbers was at training.

    An act is written before it is published: after a crash in between, `resume` publishes what
    the ledger says, and so does a `step` that finds another table published. A release goes on by
    the policy it began with, which the ledger holds; `policy` is for those that start.
    """

    def __init__(
        self, ledger: Ledger, store: Store, policy: CanaryPolicy, publish: Publish
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._profiles: dict[str, Profile] = {}  # by the digest of their bundles
        self._policy = policy
        self._publish = publish

    def start(self, challenger: ModelVersion, *, now: datetime, who: str, why: str) -> Release:
        """Gives the challenger its first share of traffic at event time `now`.

        The release that comes back is rolled back already if no replica can serve the challenger.

        Raises:
            ReleaseError: the challenger is the champion, or would refuse some of its callers.
            ConflictError: another release of this model is running.
        """
        champion = self._ledger.registry.alias(challenger.model, "champion")
        if champion == challenger.version:
            raise ReleaseError(f"{challenger} is the champion already")
        asked = self._ledger.registry.resolve(f"{challenger.model}@{champion}")
        if (problem := refused_callers(self._ledger, asked, challenger)) is not None:
            raise ReleaseError(problem)
        state = CanaryState(step=0, since=now)
        release = self._ledger.releases.start(
            model=challenger.model,
            champion=champion,
            challenger=challenger.version,
            strategy={_STRATEGY: self._policy.to_dict()},
            state=state.to_dict(),
            outcome=f"canary {self._policy.shares[0]:.0%}",
            who=who,
            why=why,
            event_time=now,
        )
        return self._follow(release, who, now, ended_by=ReleaseError)

    def resume(self, release: Release) -> None:
        """Publishes the traffic the ledger says this release stands at."""
        self._publish(self._table(release))

    def step(self, release: Release, *, now: datetime, who: str) -> Act:
        """Takes the next act of a running release, given what was seen by event time `now`.

        A champion that was moved meanwhile ends it: a person did so, or a controller that was
        killed while it promoted the challenger.
        """
        policy, state = policy_of(release), CanaryState.from_dict(release.state)
        champion = self._ledger.registry.alias(release.model, "champion")
        act: Act
        if champion == release.champion:
            evidence = self.evidence(release, since=state.since, now=now)
            act = decide(policy, state, evidence, now)
        else:
            evidence, act = None, _overtaken(release, champion)
        told = {} if evidence is None else evidence.to_dict()
        advance = partial(
            self._ledger.releases.advance, release.id, who=who, evidence=told, event_time=now
        )
        match act:
            case Advance():
                share = f"canary {policy.shares[act.state.step]:.0%}"
                release = advance(act.state.to_dict(), "running", outcome=share, why=act.why)
            case Promote():
                release = advance(release.state, "promoted", outcome="promoted", why=act.why)
            case RollBack():
                release = advance(release.state, "rolled_back", outcome="rolled back", why=act.why)
            case Wait() if not self._is_behind(release):
                return act
        # Where no replica answers just now, those that come back follow what is published.
        self._follow(release, who, now, ended_by=UnservableError)
        return act

    def evidence(self, release: Release, *, since: datetime, now: datetime) -> Evidence:
        """What both versions showed in their arms in event time [since, now); failed requests by
        whole UTC days.

        Requests that name a version are no sample of the traffic, and other canaries of the same
        days are other releases'.
        """
        observations = self._ledger.observations
        outcomes = observations.outcomes(release.model, start=since, end=now)
        canary_arm, champion_arm = _arms(release)
        canary = [row for row in outcomes if (row.arm, row.version) == canary_arm]
        champion = [row for row in outcomes if (row.arm, row.version) == champion_arm]
        signature = self._signature(release.model, release.champion)
        loss = loss_of(signature)
        far = self._far(release, champion, canary) if signature.is_regression else FarCounts()
        estimate = difference(
            champion,
            canary,
            loss,
            classes_of=partial(self._classes, release.model),
            error_cap=far.cap,
        )
        canary_rows, canary_unscored = _rows(canary)
        champion_rows, champion_unscored = _rows(champion)
        end = now.date() + timedelta(days=1)
        panes = observations.panes(release.model, start=since.date(), end=end)
        of_canary = [pane for pane in panes if (pane.arm, pane.version) == canary_arm]
        of_champion = [pane for pane in panes if (pane.arm, pane.version) == champion_arm]
        return Evidence(
            canary_requests=sum(sum(pane.latency) for pane in of_canary),
            canary_failed=sum(pane.num_failed for pane in of_canary),
            champion_requests=sum(sum(pane.latency) for pane in of_champion),
            champion_failed=sum(pane.num_failed for pane in of_champion),
            canary_rows=canary_rows,
            champion_rows=champion_rows,
            canary_unscored=canary_unscored,
            champion_unscored=champion_unscored,
            loss=loss.metric,
            difference=estimate.value,
            low=estimate.low,
            high=estimate.high,
            error_cap=far.cap,
            wild_labels=far.wild,
            canary_absurd=far.challenger_absurd,
            champion_absurd=far.champion_absurd,
        )

    def _far(
        self, release: Release, champion: Sequence[Outcomes], canary: Sequence[Outcomes]
    ) -> FarCounts:
        both = (release.champion, release.challenger)
        profiles = (self._profile(release.model, version) for version in both)
        return far_of_arms(scored(champion), scored(canary), held_to(*profiles))

    def _profile(self, model: str, version: Version) -> Profile:
        """Read once: a bundle holds its model, too."""
        row = self._ledger.registry.get(model, version)
        if row.bundle not in self._profiles:
            self._profiles[row.bundle] = Bundle.of_version(self._store, row).profile
        return self._profiles[row.bundle]

    def _table(self, release: Release) -> TrafficTable:
        return traffic_of(release, self._ledger.registry.alias(release.model, "champion"))

    def _is_behind(self, release: Release) -> bool:
        """Whether another table is published: who wrote the last act could not publish it."""
        published = self._ledger.releases.published(release.model)
        return published is not None and (
            TrafficTable.from_dict(published[1]) != self._table(release)
        )

    def _classes(self, model: str, version: str) -> tuple[Class, ...]:
        return self._signature(model, version).classes

    def _signature(self, model: str, version: Version | str) -> Signature:
        digest = self._ledger.registry.resolve(f"{model}@{version}").signature_digest
        return Signature.from_json(self._ledger.text(digest))

    def _follow(
        self, release: Release, who: str, now: datetime, *, ended_by: type[ReleaseError]
    ) -> Release:
        """Publishes what the ledger says; a canary is rolled back where that raises `ended_by`."""
        try:
            self.resume(release)
        except ended_by as error:
            if release.status != "running":
                raise
            release = self._ledger.releases.advance(
                release.id,
                release.state,
                "rolled_back",
                outcome="rolled back",
                who=who,
                why=f"it cannot be served: {redact(str(error))}",
                event_time=now,
            )
            self.resume(release)
        return release


def traffic_of(release: Release, champion: Version) -> TrafficTable:
    """The traffic that a release stands at beside the champion of now."""
    if release.status != "running":
        return TrafficTable.champion(release.model, str(champion))
    share = policy_of(release).shares[CanaryState.from_dict(release.state).step]
    challenger = str(release.challenger)
    return table(release.model, str(champion), challenger, share=share, release_id=release.id)


def policy_of(release: Release) -> CanaryPolicy:
    """What the release began with."""
    return CanaryPolicy.from_dict(release.strategy[_STRATEGY])


def _overtaken(release: Release, champion: Version) -> Act:
    if champion == release.challenger:
        return Promote(why="it is the champion already")
    return RollBack(
        why=f"the champion is {champion} now, and no longer {release.champion}, which it was "
        "held against"
    )


def _arms(release: Release) -> tuple[tuple[str, str], tuple[str, str]]:
    """(arm, version) of the canary, and of the champion."""
    return (CANARY, str(release.challenger)), (CHAMPION, str(release.champion))


def _rows(outcomes: Sequence[Outcomes]) -> tuple[int, int]:
    """How many rows have a score, and how many have one that is no number."""
    known = sum(len(each.labels) for each in scored(outcomes))
    return known, sum(len(each.labels) for each in outcomes) - known
