"""Concept drift: a detector follows the errors of each version in each arm as labels join.

What it watches is the share of wrong rows of a request, not each row: rows of one request are
alike, and a detector that took them as independent would take a bad hour for a bad model. A number
is wrong where it is farther off than nine of ten were on unseen rows at training, and so is the
order of a request, as a whole, whose NDCG lacks more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Class, class_numbers
from raymlops.ledger import ConceptAlarm, Outcome
from raymlops.monitor.detectors import DETECTORS, Detector, DetectorName
from raymlops.monitor.measures import orders

_NUM_RECENT = 100  # units whose mean error an alarm tells
_MAX_STREAMS = 32  # versions and arms that are remembered, the ones last heard of
_ROUNDING = 1e-6  # of an NDCG from labels that are kept as float32


class Baseline(NamedTuple):
    """What is known of a version: from which score on it says yes, or of several classes which it
    says; and its error rate on rows it was not trained on, None when nobody recorded that.

    Of one that `is_regression` the threshold is how far off a number may be, and not be wrong; of
    one that `is_ranking` what the NDCG of a request may lack.
    """

    threshold: float
    error_rate: float | None
    classes: Sequence[Class] = ()
    is_regression: bool = False
    is_ranking: bool = False


@dataclass(frozen=True, kw_only=True)
class ConceptPolicy:
    """Which detector watches the errors, with which of its own `parameters`.

    `unit` is what counts as one label: the mean error of a request, or each row, where rows are
    independent. Of a version whose error rate at training was not recorded, the first
    `num_learned` units are taken as what it is when all is well.
    """

    detector: DetectorName = "cusum"
    parameters: Mapping[str, int | float] = field(default_factory=dict)
    unit: Literal["request", "row"] = "request"
    num_learned: int = 500

    def __post_init__(self) -> None:
        if self.num_learned < 1:
            raise ValueError(f"num_learned is {self.num_learned}; at least one unit is needed")
        known = inspect.signature(DETECTORS[self.detector]).parameters.keys() - {"reference_rate"}
        if unknown := self.parameters.keys() - known:
            names = ", ".join(sorted(known))
            raise ValueError(f"{self.detector} has no parameter '{min(unknown)}', only {names}")
        if self.unit == "request" and self.detector in ("ddm", "eddm"):
            raise ValueError(
                f"{self.detector} knows right and wrong alone, not the share of a request; set "
                "unit to row"
            )
        self.make(0.5)

    def make(self, reference_rate: float) -> Detector[Any]:
        """A new detector; only the CUSUM knows what to do with the rate."""
        known = {"reference_rate": reference_rate} if self.detector == "cusum" else {}
        return DETECTORS[self.detector](**known, **self.parameters)


@dataclass
class _Stream:
    """The errors of one version in one arm: what is remembered of them."""

    threshold: float
    reference: float | None
    learned: list[float] = field(default_factory=list)
    num: int = 0
    recent: list[float] = field(default_factory=list)
    detector: dict[str, Any] | None = None


def watch(
    policy: ConceptPolicy,
    model: str,
    outcomes: Sequence[Outcome],
    state: Mapping[str, Any],
    baseline: Callable[[str], Baseline],
) -> tuple[dict[str, Any], list[ConceptAlarm]]:
    """(what is to be remembered, alarms) after `outcomes`, given what was remembered before them.

    The state is one of plain values; one kept under another detector, other parameters of it or
    another unit starts anew. `num_learned` may change: what was learned stays.
    """
    streams: dict[str, Any] = dict(state["streams"]) if state.get("policy") == _id(policy) else {}
    alarms: list[ConceptAlarm] = []
    for (version, arm), group in _by_stream(outcomes).items():
        key = f"{version} {arm}"
        kept = streams.pop(key, None)
        known = baseline(version)
        stream = _Stream(**kept) if kept else _begin(known)
        alarms += _follow(policy, model, stream, group, known)
        streams[key] = asdict(stream)
    newest = dict(list(streams.items())[-_MAX_STREAMS:])
    return {"policy": _id(policy), "streams": newest}, alarms


def errors_of(outcome: Outcome, threshold: float, known: Baseline) -> NDArray[np.float64]:
    """1 where what the model said did not come true, [rows], or of an order [1], [0] where no row
    was of any use; NaN never does."""
    if known.is_ranking:
        query = np.zeros(len(outcome.labels), dtype=np.int64)
        said, relevance = outcome.scores.astype(np.float64), outcome.labels.astype(np.float64)
        lacks = 1.0 - orders(said, relevance, query).ndcg
        return np.asarray(~(lacks <= threshold + _ROUNDING), dtype=np.float64)
    if known.is_regression:
        off = np.abs(outcome.scores.astype(np.float64) - outcome.labels)
        # A label is kept as float32: one that is off by just the threshold was so at training.
        is_near = off <= threshold + np.spacing(np.abs(outcome.labels).astype(np.float32))
        return np.asarray(~is_near, dtype=np.float64)
    if outcome.scores.ndim == 2:
        came = class_numbers(outcome.labels, known.classes)
        return np.asarray(outcome.scores.argmax(axis=1) != came, dtype=np.float64)
    return np.asarray((outcome.scores >= threshold) != (outcome.labels > 0), dtype=np.float64)


def _follow(
    policy: ConceptPolicy,
    model: str,
    stream: _Stream,
    outcomes: Sequence[Outcome],
    known: Baseline,
) -> list[ConceptAlarm]:
    errors, source = _units(
        policy, [errors_of(outcome, stream.threshold, known) for outcome in outcomes]
    )
    if stream.reference is None:
        num = max(0, policy.num_learned - len(stream.learned))
        stream.learned += errors[:num].tolist()
        errors, source = errors[num:], source[num:]
        if len(stream.learned) >= policy.num_learned:
            stream.reference = _inside(float(np.mean(stream.learned)), len(stream.learned))
            stream.learned = []
    if stream.reference is None or errors.size == 0:
        return []
    detector = policy.make(stream.reference)
    if stream.detector is not None:
        detector.restore(stream.detector)
    alarms, begun = [], -stream.num
    recent = np.concatenate([stream.recent, errors])
    for index in detector.feed(errors):
        last = recent[: len(stream.recent) + index + 1][-_NUM_RECENT:]
        outcome = outcomes[source[index]]
        alarms.append(
            ConceptAlarm(
                model=model,
                version=outcome.version,
                arm=outcome.arm,
                detector=policy.detector,
                request_id=outcome.request_id,
                event_time=outcome.event_time,
                num_labels=index + 1 - begun,
                reference_rate=stream.reference,
                recent_rate=float(last.mean()),
            )
        )
        begun = index + 1
    stream.num = len(errors) - begun
    stream.recent = recent[-_NUM_RECENT:].tolist()
    stream.detector = detector.state()
    return alarms


def _units(
    policy: ConceptPolicy, errors: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(the error of each unit, the number of the outcome it belongs to), given those of the rows of
    each outcome."""
    if policy.unit == "row":
        sizes = [len(each) for each in errors]
        return np.concatenate(errors), np.repeat(np.arange(len(errors)), sizes)
    filled = [number for number, each in enumerate(errors) if each.size]
    means = np.array([errors[number].mean() for number in filled])
    return means, np.array(filled, dtype=np.int64)


def _by_stream(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.version, outcome.arm), []).append(outcome)
    return groups


def _begin(baseline: Baseline) -> _Stream:
    rate = baseline.error_rate
    return _Stream(
        threshold=baseline.threshold, reference=None if rate is None else _inside(rate, 1000)
    )


def _inside(rate: float, num: int) -> float:
    """`rate`, moved off 0 and 1: that nothing was wrong in `num` does not mean nothing ever is."""
    return min(max(rate, 1.0 / num), 1.0 - 1.0 / num)


def _id(policy: ConceptPolicy) -> str:
    parameters = ", ".join(f"{name}={value:g}" for name, value in sorted(policy.parameters.items()))
    return f"{policy.detector}({parameters}) a {policy.unit}"
