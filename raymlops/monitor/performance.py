"""How well a model predicted what then came true, with intervals that stay honest.

Clusters are UTC days of event time, or requests while there are fewer than five days; see
`intervals` for what that means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Class, class_numbers
from raymlops.data.classes import UNKNOWN, class_losses
from raymlops.ledger import Outcomes
from raymlops.monitor.intervals import Clusters, Estimate, Vector, mean
from raymlops.monitor.measures import (
    ClassRows,
    classification,
    of_class,
    ranking,
    regression,
    several,
)

SCORED_SHARE = "scored_share"

MIN_DAYS = 5
"""Fewer days say too little of how days differ; see `clusters_of` for what is a cluster then."""

_MAX_CLASSES = 50  # of which each is told, the most frequent


class Known(NamedTuple):
    """The classes that a version says, and how frequent each was in its training."""

    classes: Sequence[Class]
    rates: Sequence[float]


def measure(
    outcomes: Sequence[Outcomes], *, label_rate: float, thresholds: Mapping[str, float]
) -> tuple[Estimate, ...]:
    """Every metric of `outcomes`, whose scores are probabilities; see `classification`.

    Each version has decided by its own of `thresholds`. Rows whose score is no number are left
    out: one of them would leave nothing to be said of all others. Drift of the score counts them.
    """
    outcomes = scored(outcomes)
    rows = _rows(outcomes)
    num_rows = [len(each.labels) for each in outcomes]
    threshold = np.repeat([thresholds[each.version] for each in outcomes], num_rows)
    return classification(
        rows.scores, rows.labels, rows.clusters, label_rate=label_rate, threshold=threshold
    )


def measure_classes(
    outcomes: Sequence[Outcomes], *, known: Mapping[str, Known]
) -> tuple[Estimate, ...]:
    """Every metric of `outcomes`, whose scores are the probabilities of several classes; see
    `several`.

    What versions `known` say may differ. A class that came true and that its version does not know
    costs what a certain and wrong prediction does.
    """
    return several(_class_rows(scored(outcomes), known)[0])


def measure_each_class(
    outcomes: Sequence[Outcomes], *, known: Mapping[str, Known]
) -> Iterator[tuple[str, Estimate]]:
    """(class, metric) of each class that came true or was said, the most frequent first; see
    `of_class`."""
    rows, names = _class_rows(scored(outcomes), known)
    counts = np.bincount(rows.came, minlength=len(names))
    said = np.bincount(rows.said, minlength=len(names))
    for number in np.argsort(-counts, kind="stable")[:_MAX_CLASSES].tolist():
        if counts[number] or said[number]:
            for found in of_class(number, rows, names):
                yield names[number], found


def measure_numbers(
    outcomes: Sequence[Outcomes], *, label_mean: float, error_cap: float | None = None
) -> tuple[Estimate, ...]:
    """Every metric of `outcomes` of a model that says numbers, but for rows of which it said none;
    see `regression`."""
    rows = _rows(scored(outcomes))
    return regression(
        rows.scores, rows.labels, rows.clusters, label_mean=label_mean, error_cap=error_cap
    )


def measure_orders(outcomes: Sequence[Outcomes]) -> tuple[Estimate, ...]:
    """Every metric of `outcomes` of a model that ranks, each of which is a query, but for rows of
    which it said nothing; see `ranking`."""
    outcomes = scored(outcomes)
    return ranking(*ranked(outcomes), clusters_of(outcomes))


def ranked(outcomes: Sequence[Outcomes]) -> tuple[Vector, Vector, NDArray[np.int64]]:
    """Scores, relevance, and the number of the request of each row, all [rows]."""
    rows = _rows(outcomes)
    sizes = np.concatenate([np.empty(0, np.int64), *(each.sizes for each in outcomes)])
    return rows.scores, rows.labels, np.repeat(np.arange(sizes.size), sizes)


@dataclass(frozen=True)
class _Rows:
    scores: Vector
    labels: Vector
    clusters: Clusters


def _rows(outcomes: Sequence[Outcomes]) -> _Rows:
    if not outcomes:
        return _Rows(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    return _Rows(
        np.concatenate([outcome.scores for outcome in outcomes]).astype(np.float64),
        np.concatenate([outcome.labels for outcome in outcomes]).astype(np.float64),
        clusters_of(outcomes),
    )


def scored(outcomes: Sequence[Outcomes]) -> list[Outcomes]:
    """`outcomes` without the rows whose score is no number, or an infinite one; their slices are
    let go."""
    found = [(each, _are_scored(each)) for each in outcomes]
    return [each.only(known) for each, known in found if known.any()]


def scored_share(outcomes: Sequence[Outcomes]) -> Estimate:
    """Of which share of all labelled rows the score is a number: of no other does a metric tell."""
    known = [_are_scored(each) for each in outcomes]
    shares = np.concatenate([np.empty(0), *known])
    return mean(SCORED_SHARE, shares, clusters_of(outcomes))


def _are_scored(outcomes: Outcomes) -> NDArray[np.bool_]:
    """Of which rows, [rows]."""
    scores = outcomes.scores.reshape(len(outcomes.labels), -1)
    return np.asarray(np.isfinite(scores).all(axis=1), dtype=np.bool_)


def _class_rows(
    outcomes: Sequence[Outcomes], known: Mapping[str, Known]
) -> tuple[ClassRows, list[str]]:
    """The rows, version by version, and the names of the classes that any version knows and of
    those that came true, by number."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.version)
    versions = {version: [*group] for version, group in groupby(ordered, lambda of: of.version)}
    of_versions = chain.from_iterable(known[version].classes for version in versions)
    came = chain.from_iterable(outcome.labels.tolist() for outcome in ordered)
    union = tuple(dict.fromkeys(chain(of_versions, came)))
    parts = [_said(group, known[version], union) for version, group in versions.items()]
    columns = {
        name: np.concatenate([nothing, *(part[name] for part in parts)])
        for name, nothing in _NOTHING.items()
    }
    return ClassRows(**columns, clusters=clusters_of(ordered)), [str(each) for each in union]


def _said(
    outcomes: Sequence[Outcomes], known: Known, union: Sequence[Class]
) -> dict[str, NDArray[Any]]:
    """What `ClassRows` tell of rows of one version, their classes numbered as in `union`."""
    scores = np.concatenate([outcome.scores for outcome in outcomes])
    labels = np.concatenate([outcome.labels for outcome in outcomes])
    came = class_numbers(labels, known.classes)
    of_true = np.where(came == UNKNOWN, 0.0, scores[np.arange(len(came)), came])
    return {
        "said": class_numbers(np.array(known.classes, object), union)[scores.argmax(axis=1)],
        "came": class_numbers(labels, union),
        "confidence": scores.max(axis=1).astype(np.float64),
        "losses": class_losses(scores, came),
        "squares": np.einsum("rc,rc->r", scores, scores, dtype=np.float64) - 2.0 * of_true + 1.0,
        "baseline": class_losses(np.broadcast_to(known.rates, scores.shape), came),
    }


_NOTHING = {
    "said": np.empty(0, np.int64),
    "came": np.empty(0, np.int64),
    "confidence": np.empty(0),
    "losses": np.empty(0),
    "squares": np.empty(0),
    "baseline": np.empty(0),
}
"""What they tell of no rows."""


def clusters_of(outcomes: Sequence[Outcomes]) -> Clusters:
    """The day of each row, [rows], or its request while there are fewer than five days."""
    if not outcomes:
        return np.empty(0, dtype=np.int64)
    days = np.concatenate([each.days for each in outcomes])
    requests = np.arange(days.size)
    clusters = days if len(np.unique(days)) >= MIN_DAYS else requests
    return np.repeat(clusters, np.concatenate([each.sizes for each in outcomes]))
