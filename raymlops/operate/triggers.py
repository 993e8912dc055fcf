"""When to retrain: what a judged window says, held against what was triggered before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from raymlops.config import MOST_DAYS
from raymlops.data import OUTPUTS
from raymlops.ledger import ConceptAlarm, Decision, Performance
from raymlops.ledger.figures import shown_figure
from raymlops.monitor import HELD_TO, WindowReport
from raymlops.release.canary import MOST_SKEW

_WILD = ("error_cap", "wild_labels", "absurd_predictions")

Cause = Literal["performance", "expected", "drift", "concept"]


@dataclass(frozen=True, kw_only=True)
class RetrainPolicy:
    """What calls for a new model, and how often it may.

    `performance`: the champion's mean log loss in a window, or of numbers its RMSE, lies, with 95 %
    confidence, more than `max_loss_increase` (relative) above what it was on unseen rows at
    training, or above that of a constant; of numbers with errors that are wild capped, see
    `raymlops.data.error_cap`. `expected`: while labels are missing, the log loss that
    its scores let expect lies that far above; of numbers nothing is expected. `drift`: at least
    `min_drifted_share` of its features drifted. `concept`: its detector says that its errors rose;
    that need not wait for the end of a window.

    After any trigger, also one whose challenger was refused, `cooldown_days` of event time pass
    before the next, and at most `budget` triggers fall into `budget_days`: 1 in 1 is one a day.
    """

    on: tuple[Cause, ...] = ("performance", "drift")
    max_loss_increase: float = 0.1
    min_drifted_share: float = 0.5
    cooldown_days: float = 28.0
    budget: int = 4
    budget_days: float = 180.0

    def __post_init__(self) -> None:
        if not 0 < self.min_drifted_share <= 1:
            raise ValueError(f"min_drifted_share is {self.min_drifted_share}, not in (0, 1]")
        if math.isnan(self.max_loss_increase):
            raise ValueError("max_loss_increase is nan, which nothing exceeds; .inf says so")
        if not 0 <= self.cooldown_days <= MOST_DAYS or self.budget < 0:
            raise ValueError(
                f"cooldown_days is {self.cooldown_days} and budget {self.budget}; "
                f"neither may be negative, and the first is at most {MOST_DAYS}"
            )
        if not 0 < self.budget_days <= MOST_DAYS:
            raise ValueError(
                f"budget_days is {self.budget_days}; a budget holds for some time, at most "
                f"{MOST_DAYS}"
            )


@dataclass(frozen=True, kw_only=True)
class Trigger:
    cause: Cause
    why: str
    evidence: Mapping[str, Any]


def find_trigger(
    policy: RetrainPolicy, report: WindowReport, version: str, reference_loss: float
) -> Trigger | None:
    """What in a window of the champion `version` calls for a new model; performance first.

    `reference_loss` is the champion's on unseen rows at training, NaN where nobody kept it.
    """
    finders = {"performance": _performance, "expected": _expected, "drift": _drift}
    for cause in finders:
        if cause in policy.on:
            found = finders[cause](policy, report, version, reference_loss)
            if found is not None:
                return found
    return None


def concept_trigger(policy: RetrainPolicy, alarms: Sequence[ConceptAlarm]) -> Trigger | None:
    """What the champion's `alarms` that nobody has considered call for, together.

    The evidence names the last of them, see `last_considered`, so that each is considered once.
    """
    if "concept" not in policy.on or not alarms:
        return None
    last = alarms[-1]
    more = f", the last of {len(alarms)} alarms" if len(alarms) > 1 else ""
    return Trigger(
        cause="concept",
        why=(
            f"errors of {last.version} rose from {last.reference_rate:.1%} to "
            f"{last.recent_rate:.1%}, says {last.detector} at {last.event_time:%Y-%m-%d %H:%M} "
            f"after {last.num_labels:,} labelled requests{more}"
        ),
        evidence={
            "alarm": last.id,
            "num_alarms": len(alarms),
            "detector": last.detector,
            "request": last.request_id,
            "arm": last.arm,
            "error_rate": last.recent_rate,
            "reference": last.reference_rate,
            "num_labels": last.num_labels,
        },
    )


def cause_of(decision: Decision) -> Cause:
    """Of a trigger, or of its recovery; the first ledgers' triggers name none."""
    cause: Cause = decision.evidence.get("cause", "drift")
    return cause


def last_considered(past: Sequence[Decision]) -> int:
    """The newest alarm that a decision of kind "trigger" names; 0 before the first."""
    return max((int(decision.evidence.get("alarm", 0)) for decision in past), default=0)


def suppressed_because(
    policy: RetrainPolicy, past: Sequence[Decision], now: datetime
) -> str | None:
    """Why a trigger at event time `now` must not retrain, None when it may.

    `past` are the earlier decisions of kind "trigger" that led to a training. One of a time yet to
    come was made by a clock that was set back since, and would hold for as long as it was ahead.
    """
    known = [decision.event_time for decision in past if decision.event_time is not None]
    times = [time for time in known if time - now <= MOST_SKEW]
    if times and now - max(times) < timedelta(days=policy.cooldown_days):
        return (
            f"the last trigger was at {max(times):%Y-%m-%d}, within {policy.cooldown_days:g} days"
        )
    recent = [time for time in times if now - time < timedelta(days=policy.budget_days)]
    if len(recent) >= policy.budget:
        return f"{len(recent)} trainings in {policy.budget_days:g} days is the whole budget"
    return None


def estimates_of(version: str, rows: Iterable[Performance]) -> dict[str, Performance]:
    """By metric, of the arm in which `version` answered most rows."""
    mine = [row for row in rows if row.version == version]
    if not mine:
        return {}
    arm = max(mine, key=lambda row: row.num_rows).arm
    return {row.metric: row for row in mine if row.arm == arm}


def labelled_loss(found: Mapping[str, Performance]) -> str | None:
    """The metric among estimates by metric that a version is held to; None without labelled rows,
    or where it was not held against a constant, as numbers once were not. Of those that were
    trained before anybody kept how far off is wild it is the loss itself."""
    known = (name for name in HELD_TO if f"{name}_over_baseline" in found)
    return next((name for name in known if found[name].num_rows), None)


def _performance(
    policy: RetrainPolicy, report: WindowReport, version: str, reference: float
) -> Trigger | None:
    found = estimates_of(version, report.performance)
    if (name := labelled_loss(found)) is None:
        return None
    loss, over_baseline = found[name], found[f"{name}_over_baseline"]
    limit = reference * (1 + policy.max_loss_increase)
    if loss.low > limit:
        problem = _held_to(reference, limit)
    elif over_baseline.low > 0:
        problem = f"{HELD_TO[name].naive} would do better"
    else:
        return None
    return Trigger(
        cause="performance",
        why=(
            f"{HELD_TO[name].title} of {version} was {_estimated(loss)} in {report.window} "
            f"({loss.num_rows:,} rows); {problem}{_wild(found)}"
        ),
        evidence={
            "window": str(report.window),
            name: loss.value,
            "low": loss.low,
            "high": loss.high,
            "over_baseline": over_baseline.value,
            "reference": reference,
            "limit": limit,
            **{each: found[each].value for each in _WILD if each in found},
        },
    )


def _wild(found: Mapping[str, Performance]) -> str:
    """What of a loss is capped, where anything is."""
    wild = found.get("wild_labels")
    if wild is None or not (num := round(wild.value * wild.num_rows)):
        return ""
    cap = shown_figure(found["error_cap"].value, 3)
    return f"; {num:,} labels are wild, and their errors count as {cap}"


def _expected(
    policy: RetrainPolicy, report: WindowReport, version: str, reference: float
) -> Trigger | None:
    """Only where no label says better: real losses are judged by `_performance`."""
    rows = [row for row in report.performance if row.version == version]
    if any(row.metric == "log_loss" and row.num_rows for row in rows):
        return None
    losses = [row for row in rows if row.metric == "expected_log_loss"]
    if not losses:
        return None
    loss = max(losses, key=lambda row: row.num_rows)
    limit = reference * (1 + policy.max_loss_increase)
    if not loss.low > limit:
        return None
    return Trigger(
        cause="expected",
        why=(
            f"no labels of {report.window} are known, but the scores of {version} let expect a "
            f"log loss of {_estimated(loss)} ({loss.num_rows:,} rows); {_held_to(reference, limit)}"
        ),
        evidence={
            "window": str(report.window),
            "expected_log_loss": loss.value,
            "low": loss.low,
            "high": loss.high,
            "reference": reference,
            "limit": limit,
        },
    )


def _estimated(loss: Performance) -> str:
    value, low, high = (shown_figure(each, 3) for each in (loss.value, loss.low, loss.high))
    return f"{value} [{low}, {high}]"


def _held_to(reference: float, limit: float) -> str:
    trained, most = shown_figure(reference, 3), shown_figure(limit, 3)
    return f"at training it was {trained}, the limit is {most}"


def _drift(
    policy: RetrainPolicy, report: WindowReport, version: str, reference: float
) -> Trigger | None:
    judged = [row for row in report.drift if row.version == version and row.feature not in OUTPUTS]
    drifted = [row for row in judged if row.drifted]
    if not judged or len(drifted) / len(judged) < policy.min_drifted_share:
        return None
    farthest = sorted(drifted, key=lambda row: -row.effect)[:3]
    named = ", ".join(f"{row.feature} {row.effect:.2f}" for row in farthest)
    return Trigger(
        cause="drift",
        why=(
            f"{len(drifted)} of {len(judged)} features drifted in {report.window} from what "
            f"{version} was trained on; the farthest: {named}"
        ),
        evidence={
            "window": str(report.window),
            "effects": {row.feature: row.effect for row in drifted},
        },
    )
