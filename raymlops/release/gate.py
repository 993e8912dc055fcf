"""The gate: whether a challenger has shown, on the same rows, that it beats the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from raymlops.config import MOST_DAYS
from raymlops.ledger.figures import shown_figure
from raymlops.monitor import LOSSES


@dataclass(frozen=True, kw_only=True)
class GatePolicy:
    """The newest `holdout_days` of labelled data are kept from the challenger's training and
    decide: its mean log loss must be lower than the champion's by at least `min_gain` nats, or of
    numbers its RMSE by that share of the champion's, with the whole 95 % interval below zero. There
    no error counts for more than the champion's cap, see `raymlops.data.error_cap`."""

    holdout_days: int = 14
    min_gain: float = 0.0
    min_rows: int = 1000

    def __post_init__(self) -> None:
        if not 5 <= self.holdout_days <= MOST_DAYS:
            raise ValueError(
                f"holdout_days is {self.holdout_days}; an interval needs at least 5, and at most "
                f"{MOST_DAYS} are held out"
            )
        if not self.min_gain >= 0:
            raise ValueError(f"min_gain is {self.min_gain}, not zero or more")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Champion and challenger on the same labelled rows of [start, end).

    `champion` and `challenger` are their figures by metric, of which `loss` decides: `difference`
    is by how much the challenger's differs, with its 95 % interval. Those rows do not hold the
    `unscored`, of which one of both says no number. Of numbers no error counts for more than
    `error_cap`, None where no such is known, which `wild_labels` are beyond; on so many rows what
    one says is `absurd`.
    """

    start: datetime
    end: datetime
    num_rows: int
    champion_unscored: int
    challenger_unscored: int
    champion: Mapping[str, float]
    challenger: Mapping[str, float]
    loss: str
    difference: float
    low: float
    high: float
    error_cap: float | None = None
    wild_labels: int = 0
    champion_absurd: int = 0
    challenger_absurd: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"start": self.start.isoformat(), "end": self.end.isoformat()}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    passed: bool
    why: str
    evidence: Mapping[str, Any]


def judge(policy: GatePolicy, comparison: Comparison) -> Verdict:
    """Passed only on evidence: too few rows or an undefined interval refuse, and so do more rows
    without a score, or with an absurd one, than the champion has."""
    loss = LOSSES[comparison.loss]
    shown = (
        f"{loss.title} {shown_figure(comparison.challenger[loss.decides])} against the champion's "
        f"{shown_figure(comparison.champion[loss.decides])} on {comparison.num_rows:,} rows: "
        f"difference {loss.told(comparison.difference)}, "
        f"95 % interval [{loss.told(comparison.low)}, {loss.told(comparison.high)}]"
        + _wild(comparison)
    )
    if comparison.num_rows < policy.min_rows:
        problem = f"fewer rows than the {policy.min_rows:,} needed"
    elif comparison.challenger_unscored > comparison.champion_unscored:
        problem = (
            f"its score is no number on {comparison.challenger_unscored:,} rows, the champion's on "
            f"{comparison.champion_unscored:,}"
        )
    elif comparison.challenger_absurd > comparison.champion_absurd:
        problem = (
            f"what it says is absurd on {comparison.challenger_absurd:,} rows, of the champion on "
            f"{comparison.champion_absurd:,}"
        )
    elif not comparison.high < 0:  # also when it is NaN
        problem = "not shown to be better"
    elif not comparison.difference <= -policy.min_gain:
        problem = f"a smaller gain than {loss.told(policy.min_gain).removeprefix('+')}"
    else:
        return Verdict(passed=True, why=f"better: {shown}", evidence=comparison.to_dict())
    return Verdict(passed=False, why=f"{problem}: {shown}", evidence=comparison.to_dict())


def _wild(comparison: Comparison) -> str:
    if comparison.error_cap is None or not comparison.wild_labels:
        return ""
    cap = shown_figure(comparison.error_cap, 3)
    return f"; {comparison.wild_labels:,} labels are wild, and their errors count as {cap}"
