"""Probabilities of several classes against the class that came true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, mean, ratio, undefined
from raymlops.monitor.measures.classification import calibration_error

_MAX_MISTAKEN = 5  # what else was said of a class, the most frequent

Numbers = NDArray[np.int64]
"""Of classes, in the order of their probabilities."""


@dataclass(frozen=True, kw_only=True)
class ClassRows:
    """What became of each row, all [rows]: which class was `said` and which `came` true, by their
    numbers, the probability `confidence` of the one that was said, and what the row cost.

    `squares` add up the squared errors of all probabilities, so 2 is the worst; `baseline` is the
    log loss of always saying how frequent each class is.
    """

    said: Numbers
    came: Numbers
    confidence: Vector
    losses: Vector
    squares: Vector
    baseline: Vector
    clusters: Clusters


def several(rows: ClassRows) -> tuple[Estimate, ...]:
    """Every metric of `rows`; `calibration_error` is that of the class that is said."""
    clusters, right = rows.clusters, _floats(rows.said == rows.came)
    over = rows.losses - rows.baseline
    return (
        mean("log_loss", rows.losses, clusters, high=math.inf),
        mean("baseline_log_loss", rows.baseline, clusters, high=math.inf),
        mean("log_loss_over_baseline", over, clusters, low=-math.inf, high=math.inf),
        mean("brier", rows.squares, clusters, high=2.0),
        calibration_error(rows.confidence, right, clusters),
        mean("accuracy", right, clusters),
        _macro_f1(rows.said, rows.came, clusters),
    )


def of_class(number: int, rows: ClassRows, names: Sequence[str]) -> Iterator[Estimate]:
    """What became of one class: recall of the rows of which it came true, precision of those of
    which it was said, F1, and what was said in its place, such as `said setosa`."""
    came, said = rows.came == number, rows.said == number
    own = rows.clusters[came]
    yield mean("recall", _floats(said[came]), own)
    yield mean("precision", _floats(came[said]), rows.clusters[said])
    yield ratio("f1", 2.0 * _floats(came & said), _floats(came) + _floats(said), rows.clusters)
    mistaken = np.bincount(rows.said[came & ~said], minlength=len(names))
    for other in np.argsort(-mistaken, kind="stable")[:_MAX_MISTAKEN]:
        if mistaken[other]:
            yield mean(f"said {names[other]}", _floats(rows.said[came] == other), own)


def _macro_f1(said: Numbers, came: Numbers, clusters: Clusters) -> Estimate:
    """The mean F1 of the classes that were said or came true.

    With F_c = 2 h_c / n_c, where h_c rows were rightly said to be c and n_c counts those said and
    those that were, a row adds (2 [it is right] - F_c) / n_c for the class that was said and for
    the one that came true.
    """
    if came.size == 0:
        return undefined("macro_f1", 0)
    num = int(max(said.max(), came.max())) + 1
    right = said == came
    hits = np.bincount(came[right], minlength=num)
    total = np.bincount(said, minlength=num) + np.bincount(came, minlength=num)
    occurs = total > 0
    f1 = np.divide(2.0 * hits, total, out=np.zeros(num), where=occurs)
    shares = (_floats(right) - f1[said]) / total[said] + (_floats(right) - f1[came]) / total[came]
    value = float(f1[occurs].mean())
    return estimate("macro_f1", value, shares / occurs.sum(), clusters, 0.0, 1.0)


def _floats(flags: NDArray[np.bool_]) -> Vector:
    return flags.astype(np.float64)
