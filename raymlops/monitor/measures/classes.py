"""Probabilities of several classes against the class that came true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from raymlops.data.classes import class_losses
from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, mean, ratio, undefined
from raymlops.monitor.measures.classification import calibration_error

_MAX_MISTAKEN = 5  # what else was said of a class, the most frequent

Numbers = NDArray[np.int64]
"""Of classes, in the order of their probabilities."""


def several(
    scores: Vector, labels: Numbers, clusters: Clusters, *, baseline: Vector
) -> tuple[Estimate, ...]:
    """Every metric of probabilities `scores` [rows, classes] and what came true, `labels` [rows].

    `baseline` [rows] is what always saying how frequent each class is costs. `calibration_error`
    is that of the probability of the class that is said; `brier` adds up all classes', so 2 is the
    worst.
    """
    losses, said = class_losses(scores, labels), scores.argmax(axis=1)
    right = np.asarray(said == labels, dtype=np.float64)
    squares = (scores**2).sum(axis=1) - 2.0 * scores[np.arange(len(labels)), labels] + 1.0
    return (
        mean("log_loss", losses, clusters, high=math.inf),
        mean("baseline_log_loss", baseline, clusters, high=math.inf),
        mean("log_loss_over_baseline", losses - baseline, clusters, low=-math.inf, high=math.inf),
        mean("brier", squares, clusters, high=2.0),
        calibration_error(scores.max(axis=1, initial=0.0), right, clusters),
        mean("accuracy", right, clusters),
        _macro_f1(said, labels, clusters),
    )


def of_class(
    number: int, scores: Vector, labels: Numbers, clusters: Clusters, *, names: Sequence[str]
) -> Iterator[Estimate]:
    """What became of one class: recall of the rows of which it came true, precision of those of
    which it was said, F1, and what was said in its place, such as `said setosa`."""
    said = scores.argmax(axis=1)
    is_true, is_said = labels == number, said == number
    own = clusters[is_true]
    yield mean("recall", _floats(is_said[is_true]), own)
    yield mean("precision", _floats(is_true[is_said]), clusters[is_said])
    hits = _floats(is_true & is_said)
    yield ratio("f1", 2.0 * hits, _floats(is_true) + _floats(is_said), clusters)
    mistaken = np.bincount(said[is_true & ~is_said], minlength=len(names))
    for other in np.argsort(-mistaken, kind="stable")[:_MAX_MISTAKEN]:
        if mistaken[other]:
            yield mean(f"said {names[other]}", _floats(said[is_true] == other), own)


def _macro_f1(said: Numbers, labels: Numbers, clusters: Clusters) -> Estimate:
    """The mean F1 of the classes that were said or came true.

    With F_c = 2 h_c / n_c, where h_c rows were rightly said to be c and n_c counts those said and
    those that were, a row adds (2 [it is right] - F_c) / n_c for the class that was said and for
    the one that came true.
    """
    if labels.size == 0:
        return undefined("macro_f1", 0)
    num = int(max(said.max(), labels.max())) + 1
    right = said == labels
    hits = np.bincount(labels[right], minlength=num)
    total = np.bincount(said, minlength=num) + np.bincount(labels, minlength=num)
    occurs = total > 0
    f1 = np.divide(2.0 * hits, total, out=np.zeros(num), where=occurs)
    shares = (_floats(right) - f1[said]) / total[said] + (_floats(right) - f1[labels]) / total[
        labels
    ]
    value = float(f1[occurs].mean())
    return estimate("macro_f1", value, shares / occurs.sum(), clusters, 0.0, 1.0)


def _floats(flags: NDArray[np.bool_]) -> Vector:
    return flags.astype(np.float64)
