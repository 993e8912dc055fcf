"""When what called for a new model is over, although the same champion answers.

    window      bad   calm   bad   calm   few rows   calm
    episode   ───┬────────────────────────────────────┤ over: calm in two windows in a row

A window is calm where it shows that a cause is gone, not where it shows too little of it: what
began with evidence does not end for want of it. So drift is looked for here with all of alpha, of
which a late look has next to nothing left, and a loss is to lie within its limit, not only its
interval to reach there. What a window says nothing of, for want of labels or rows, it neither ends
nor prolongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from raymlops.data import OUTPUTS
from raymlops.ledger import ConceptAlarm, Decision, Drift
from raymlops.monitor import DriftPolicy, Window, WindowReport
from raymlops.operate.triggers import (
    Cause,
    RetrainPolicy,
    cause_of,
    estimates_of,
    labelled_loss,
)

KIND = "recovery"
_NUM_CALM = 2  # one alone may be an accident, as may be a bad one between calm ones


@dataclass(frozen=True, kw_only=True)
class Standard:
    """What windows of the champion `version` are held against; `loss` is its at training."""

    version: str
    loss: float
    retrain: RetrainPolicy
    drift: DriftPolicy

    @property
    def limit(self) -> float:
        return self.loss * (1 + self.retrain.max_loss_increase)


def open_causes(past: Sequence[Decision]) -> tuple[Cause, ...]:
    """What the decisions about a model, oldest first, say is wrong and is not over."""
    found: dict[Cause, None] = {}
    for decision in past:
        match decision.kind, decision.outcome.split():
            case "trigger", _:
                found[cause_of(decision)] = None
            case "recovery", _:
                found.pop(cause_of(decision), None)
            case "alias", ["champion", *_]:
                found.clear()
    return tuple(found)


def calm_windows(
    cause: Cause,
    newest_first: Iterable[WindowReport],
    alarms: Sequence[ConceptAlarm],
    standard: Standard,
) -> tuple[Window, ...]:
    """The newest windows that say anything of `cause`, where all of them say that it is gone; none
    while one does not, or there are too few. Of the windows no more are read than that takes."""
    found: list[Window] = []
    for report in newest_first:
        match _IS_CALM[cause](report, alarms, standard):
            case True:
                found.insert(0, report.window)
            case False:
                return ()
        if len(found) == _NUM_CALM:
            return tuple(found)
    return ()


_Said = bool | None
"""Whether a window shows that a cause is gone; None where it says nothing of it."""


def _performance(report: WindowReport, alarms: Sequence[ConceptAlarm], standard: Standard) -> _Said:
    found = estimates_of(standard.version, report.performance)
    if (name := labelled_loss(found)) is None:
        return None
    beats_constant = found[f"{name}_over_baseline"].value <= 0
    # Never, where nobody kept what it was at training.
    is_above = found[name].value > standard.limit
    return beats_constant and not is_above


def _expected(report: WindowReport, alarms: Sequence[ConceptAlarm], standard: Standard) -> _Said:
    if (known := _performance(report, alarms, standard)) is not None:
        return known
    losses = [
        row
        for row in report.performance
        if row.version == standard.version and row.metric == "expected_log_loss"
    ]
    if not losses:
        return None
    return max(losses, key=lambda row: row.num_rows).value <= standard.limit


def _drift(report: WindowReport, alarms: Sequence[ConceptAlarm], standard: Standard) -> _Said:
    judged = [
        row
        for row in report.drift
        if row.version == standard.version and row.feature not in OUTPUTS
    ]
    if not judged:
        return None
    far = [row for row in judged if row.drifted or _is_far(row, standard.drift)]
    return len(far) / len(judged) < standard.retrain.min_drifted_share


def _is_far(row: Drift, policy: DriftPolicy) -> bool:
    return row.effect > policy.threshold(row.feature, row.test) and row.p_value < policy.alpha


def _concept(report: WindowReport, alarms: Sequence[ConceptAlarm], standard: Standard) -> _Said:
    """A detector begins anew after its alarm, and one that has no error rate of the training takes
    what it sees then as usual: its silence alone says nothing."""
    window = report.window
    if any(window.start <= alarm.event_time < window.end for alarm in alarms):
        return False
    return _performance(report, alarms, standard)


_IS_CALM: Mapping[Cause, Callable[[WindowReport, Sequence[ConceptAlarm], Standard], _Said]] = {
    "performance": _performance,
    "expected": _expected,
    "drift": _drift,
    "concept": _concept,
}
