"""Canary: a challenger earns its traffic step by step, or loses it.

    0.2 ──enough evidence, guards hold──► 0.5 ──...──► promoted
     └───────────── a guard is broken, or no evidence in time ─────► rolled back

A pure state machine: evidence and time go in, the next act comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from scipy.special import bdtrc

from raymlops.config import MOST_DAYS
from raymlops.ledger.figures import shown_figure
from raymlops.monitor import LOSSES
from raymlops.serve.traffic import Arm, TrafficTable

CHAMPION = "champion"
CANARY = "canary"
_FORMER_NAMES = {"max_log_loss_increase": "max_loss_increase"}


@dataclass(frozen=True, kw_only=True)
class CanaryPolicy:
    """Shares of traffic in rising order, and what each step must show before the next.

    A step is judged once, when the canary has `min_rows` labelled rows and `min_days` of event
    time have passed: looking again and again would sooner or later find a difference by chance.
    Then its mean log loss must not, with 95 % confidence, exceed the champion's by more than
    `max_loss_increase` nats; of numbers its RMSE by more than that share of the champion's, where
    no error counts for more than a cap, nor may what it says be absurd more often. Without that
    evidence after `max_days` the release is rolled back.
    At any time it is rolled back when the share of failed requests exceeds the champion's by
    more than `max_error_rate_increase`, and they are at least three; so it is when that holds of
    labelled rows whose score is no number.
    """

    shares: tuple[float, ...] = (0.1, 0.5)
    min_rows: int = 1000
    min_days: float = 2.0
    max_days: float = 14.0
    max_error_rate_increase: float = 0.01
    max_loss_increase: float = 0.02

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        if not self.shares or not rising or not 0 < self.shares[0] <= self.shares[-1] < 1:
            raise ValueError(f"shares are {self.shares}; give rising shares between 0 and 1")
        if not 0 < self.min_days <= self.max_days <= MOST_DAYS:
            raise ValueError(
                f"min_days is {self.min_days} and max_days {self.max_days}; the first must be "
                f"positive and not above the second, and that at most {MOST_DAYS}"
            )
        for name in ("max_error_rate_increase", "max_loss_increase"):
            if math.isnan(getattr(self, name)):
                raise ValueError(f"{name} is nan, which nothing exceeds; .inf says so")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"shares": list(self.shares)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CanaryPolicy:
        """Also of a release that began when its limit was one of log loss alone."""
        values = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
        return cls(**{**values, "shares": tuple(values["shares"])})


@dataclass(frozen=True, kw_only=True)
class CanaryState:
    """The step the release stands at, and the event time at which that step began."""

    step: int
    since: datetime

    def to_dict(self) -> dict[str, Any]:
        return {"step": self.step, "since": self.since.isoformat()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CanaryState:
        return cls(step=values["step"], since=datetime.fromisoformat(values["since"]))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What both arms showed since the step began.

    `difference` is by how much the canary's loss, whose metric is `loss`, differs from the
    champion's over labelled rows, with its 95 % interval; NaN while undefined. Those rows do not
    hold the `unscored`, whose score is no number. Of numbers no error counts for more than
    `error_cap`, None where no such is known, which `wild_labels` are beyond; what was answered to
    so many requests is `absurd`.
    """

    canary_requests: int
    canary_failed: int
    champion_requests: int
    champion_failed: int
    canary_rows: int
    champion_rows: int
    canary_unscored: int
    champion_unscored: int
    loss: str
    difference: float
    low: float
    high: float
    error_cap: float | None = None
    wild_labels: int = 0
    canary_absurd: int = 0
    champion_absurd: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_absurd(self) -> bool:
        """Whether what the canary says is so more often than what the champion does.

        Both are asked the same broken things. If they were absurd alike, those of the canary would
        be binomial, given how many there are of both: three and none of the champion's are enough
        where both answered as many.
        """
        if self.canary_absurd < _MIN_FAILED:
            return False
        share = self.canary_rows / max(1, self.canary_rows + self.champion_rows)
        num = self.canary_absurd + self.champion_absurd
        return float(bdtrc(self.canary_absurd - 1, num, share)) < _DOUBT

    @property
    def error_rate_increase(self) -> float:
        canary = _share(self.canary_failed, self.canary_requests)
        return canary - _share(self.champion_failed, self.champion_requests)

    @property
    def unscored_rate_increase(self) -> float:
        canary = _share(self.canary_unscored, self.canary_rows)
        return canary - _share(self.champion_unscored, self.champion_rows)


def _share(bad: int, good: int) -> float:
    return bad / max(1, good + bad)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Stay at this step."""


@dataclass(frozen=True, kw_only=True)
class Advance:
    state: CanaryState
    why: str


@dataclass(frozen=True, kw_only=True)
class Promote:
    why: str


@dataclass(frozen=True, kw_only=True)
class RollBack:
    why: str


Act = Wait | Advance | Promote | RollBack

_MIN_FAILED = 3
_DOUBT = 0.15  # of three heads in a row a coin is accused: absurd answers are no matter of chance
MOST_SKEW = timedelta(days=1)
"""No two clocks differ by more: what is farther ahead was told by one that was set back since."""


def decide(policy: CanaryPolicy, state: CanaryState, evidence: Evidence, now: datetime) -> Act:
    """The next act of a release at `state`, given the evidence at event time `now`."""
    if (
        evidence.canary_failed >= _MIN_FAILED
        and evidence.error_rate_increase > policy.max_error_rate_increase
    ):
        sent = evidence.canary_requests + evidence.canary_failed
        return RollBack(
            why=f"{evidence.canary_failed} of {sent} requests failed; the error rate may exceed "
            f"the champion's by {policy.max_error_rate_increase:.1%}"
        )
    if (
        evidence.canary_unscored >= _MIN_FAILED
        and evidence.unscored_rate_increase > policy.max_error_rate_increase
    ):
        rows = evidence.canary_rows + evidence.canary_unscored
        return RollBack(
            why=f"{evidence.canary_unscored:,} of {rows:,} labelled rows have a score that is no "
            f"number; their share may exceed the champion's by {policy.max_error_rate_increase:.1%}"
        )
    elapsed = now - state.since
    if elapsed < -MOST_SKEW:
        return Advance(
            state=CanaryState(step=state.step, since=now),
            why=f"the clock was set back, by which this step began at {state.since:%Y-%m-%d}: it "
            "begins anew",
        )
    known = evidence.canary_rows >= policy.min_rows and not math.isnan(evidence.low)
    if not known or elapsed < timedelta(days=policy.min_days):
        if elapsed < timedelta(days=policy.max_days):
            return Wait()
        return RollBack(
            why=f"{evidence.canary_rows:,} labelled rows after {policy.max_days:g} days; "
            f"the step needs {policy.min_rows:,}"
            + (f", and has {evidence.champion_rows:,} of the champion's" if not known else "")
        )
    if evidence.is_absurd:
        return RollBack(
            why=f"absurd numbers were answered to {evidence.canary_absurd:,} requests, by the "
            f"champion to {evidence.champion_absurd:,}: {_shown(evidence)}"
        )
    if evidence.low > policy.max_loss_increase:
        return RollBack(why=f"worse than the champion: {_shown(evidence)}")
    why = f"guards hold at {policy.shares[state.step]:.0%} of requests: {_shown(evidence)}"
    if state.step + 1 == len(policy.shares):
        return Promote(why=why)
    return Advance(state=CanaryState(step=state.step + 1, since=now), why=why)


def table(
    model: str, champion: str, challenger: str, *, share: float, release_id: int
) -> TrafficTable:
    """The traffic at a step; every release deals the keys out anew."""
    return TrafficTable(
        model=model,
        arms=(
            Arm(name=CHAMPION, version=champion, share=1.0 - share),
            Arm(name=CANARY, version=challenger, share=share),
        ),
        salt=f"release-{release_id}",
    )


def _shown(evidence: Evidence) -> str:
    left_out = evidence.canary_unscored + evidence.champion_unscored
    loss = LOSSES[evidence.loss]
    return (
        f"{loss.title} {loss.told(evidence.difference)} [{loss.told(evidence.low)}, "
        f"{loss.told(evidence.high)}] over "
        f"{evidence.canary_rows:,} labelled rows against {evidence.champion_rows:,}, "
        f"{evidence.canary_failed} failed requests"
        + (f"; {left_out:,} rows whose score is no number are left out" if left_out else "")
        + _wild(evidence)
    )


def _wild(evidence: Evidence) -> str:
    if evidence.error_cap is None or not evidence.wild_labels:
        return ""
    cap = shown_figure(evidence.error_cap, 3)
    return f"; {evidence.wild_labels:,} labels are wild, and their errors count as {cap}"
