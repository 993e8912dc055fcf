"""What versions are held against each other by: a loss a row, or of an order one a query, and how
far two of them differ.

Of probabilities that is the log loss, and a difference is one of nats. Of an order it is what its
NDCG lacks of 1. Of numbers it is the root of
the mean squared error, whose size is that of the label: a difference is a share of the champion's.
There no error counts for more than a cap, the same for both: one wild label would own the mean, see
`raymlops.data.error_cap`. The interval is that of the logarithm of their ratio, so that it reaches
no lower than -100 %, and is the same whichever of both is called the champion.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Class, class_numbers
from raymlops.data.classes import class_losses
from raymlops.data.error_cap import cap_among
from raymlops.ledger import Outcomes
from raymlops.monitor.intervals import Clusters, Estimate, Vector, estimate, undefined
from raymlops.monitor.measures import log_losses, orders
from raymlops.monitor.performance import clusters_of, ranked, scored

ClassesOf = Callable[[str], Sequence[Class]]
"""The classes that a version says the probabilities of, in their order."""


class Change(NamedTuple):
    """By how much a loss differs, on the scale on which its interval is symmetric, and how fast
    that moves with the mean of each side's rows."""

    value: float
    by_champion: float
    by_challenger: float


class Costs(NamedTuple):
    """What rows cost, or queries, and the number of each row, or of one of each query's."""

    costs: Vector
    rows: NDArray[np.int64]


class Loss(ABC):
    metric: ClassVar[str]
    """Its name among the metrics of a window."""
    title: ClassVar[str]
    guess: ClassVar[str] = "constant guess"
    naive: ClassVar[str]
    """What knows nothing of the rows, and costs `baseline_` of the metric; short, and in full."""
    decides: ClassVar[str]
    """The metric of a window that it is held to: the same, or with wild errors capped."""

    @property
    def heading(self) -> str:
        """Its title where a line begins with it."""
        return self.title[:1].upper() + self.title[1:]

    @abstractmethod
    def costs(self, outcomes: Sequence[Outcomes], classes_of: ClassesOf) -> Costs:
        """What each row, or query, of `outcomes` costs."""

    def capped(
        self, champion: Vector, challenger: Vector, error_cap: float | None
    ) -> tuple[Vector, Vector]:
        """What their `rows` count for where both are held against each other, given the cap of the
        errors at training."""
        return champion, challenger

    def level(self, mean: float) -> float:
        """What is told of a mean of `rows`."""
        return mean

    @abstractmethod
    def change(self, champion: float, challenger: float) -> Change:
        """From one mean of `rows` to another."""

    def difference(self, change: float) -> float:
        """What is told of a change on that scale."""
        return change

    @abstractmethod
    def told(self, difference: float) -> str:
        """A difference as people read it."""


class RowLoss(Loss):
    """One that each row has, whatever the others are."""

    @abstractmethod
    def rows(self, scores: NDArray[Any], labels: NDArray[Any]) -> Vector:
        """What each row costs, [rows]: of `scores` [rows], or of those of several classes [rows,
        classes], of which `labels` [rows] are the numbers of those that came true."""

    def costs(self, outcomes: Sequence[Outcomes], classes_of: ClassesOf) -> Costs:
        costs = costs_of(outcomes, self, classes_of)
        return Costs(costs, np.arange(costs.size))


class _LogLoss(RowLoss):
    metric = decides = "log_loss"
    title = "log loss"
    naive = "always saying how frequent each label was in training"

    def rows(self, scores: NDArray[Any], labels: NDArray[Any]) -> Vector:
        return (class_losses if scores.ndim == 2 else log_losses)(scores, labels)

    def change(self, champion: float, challenger: float) -> Change:
        return Change(challenger - champion, -1.0, 1.0)

    def told(self, difference: float) -> str:
        return f"{difference:+.4f}"


class _Rmse(RowLoss):
    metric = "rmse"
    title = "RMSE"
    naive = "always predicting the mean in training"
    decides = "capped_rmse"

    def rows(self, scores: NDArray[Any], labels: NDArray[Any]) -> Vector:
        errors: Vector = scores.astype(np.float64) - labels
        return errors**2

    def capped(
        self, champion: Vector, challenger: Vector, error_cap: float | None
    ) -> tuple[Vector, Vector]:
        if error_cap is None:
            return champion, challenger
        most = cap_among(error_cap, np.sqrt(champion), np.sqrt(challenger)) ** 2
        return np.minimum(champion, most), np.minimum(challenger, most)

    def level(self, mean: float) -> float:
        return math.sqrt(mean)

    def change(self, champion: float, challenger: float) -> Change:
        """log(sqrt(c / a)) has the derivatives -1 / 2a and 1 / 2c."""
        if champion == 0.0 or challenger == 0.0:
            return Change(math.nan, math.nan, math.nan)  # of what is never off there is no share
        ratio = math.log(challenger / champion) / 2.0
        return Change(ratio, -1.0 / (2.0 * champion), 1.0 / (2.0 * challenger))

    def difference(self, change: float) -> float:
        return math.expm1(change)

    def told(self, difference: float) -> str:
        return f"{difference:+.1%}"


class _NdcgLoss(Loss):
    metric = decides = "ndcg_loss"
    title = "NDCG loss"
    guess, naive = "random order", "a random order"

    def costs(self, outcomes: Sequence[Outcomes], classes_of: ClassesOf) -> Costs:
        found = orders(*ranked(outcomes))
        return Costs(1.0 - found.ndcg, found.rows)

    def change(self, champion: float, challenger: float) -> Change:
        return Change(challenger - champion, -1.0, 1.0)

    def told(self, difference: float) -> str:
        return f"{difference:+.4f}"


LOG_LOSS, RMSE, NDCG_LOSS = _LogLoss(), _Rmse(), _NdcgLoss()

LOSSES: Mapping[str, Loss] = {loss.metric: loss for loss in (LOG_LOSS, RMSE, NDCG_LOSS)}

HELD_TO: Mapping[str, Loss] = {
    name: loss for loss in LOSSES.values() for name in (loss.decides, loss.metric)
}
"""By the metric that decides, or where nobody kept what is wild by the loss itself, in this order
of preference."""


class Answering(Protocol):
    """What is known of what a model says: by its signature, or by its postprocessing."""

    @property
    def is_regression(self) -> bool: ...

    @property
    def is_ranking(self) -> bool: ...


def loss_of(model: Answering) -> Loss:
    return NDCG_LOSS if model.is_ranking else row_loss(is_regression=model.is_regression)


def row_loss(*, is_regression: bool) -> RowLoss:
    return RMSE if is_regression else LOG_LOSS


def paired_difference(
    loss: Loss, champion: Vector, challenger: Vector, clusters: Clusters
) -> Estimate:
    """By how much the challenger's loss differs from the champion's, from what the same rows cost
    both; all [rows].

    Below zero where the challenger is better. What makes a row hard for both cancels.
    """
    means = float(champion.mean()), float(challenger.mean())
    change = loss.change(*means)
    influence = change.by_champion * (champion - means[0])
    influence += change.by_challenger * (challenger - means[1])
    return _difference(loss, change, influence / champion.size, clusters)


def difference(
    champion: Sequence[Outcomes],
    challenger: Sequence[Outcomes],
    loss: Loss = LOG_LOSS,
    *,
    classes_of: ClassesOf = lambda _: (),
    error_cap: float | None = None,
) -> Estimate:
    """By how much the loss of the challenger's rows differs from that of the champion's, on
    different rows; `classes_of` is asked where scores are those of several classes, and errors of
    numbers are capped by the `error_cap` of one version's training.

    Both arms live through the same days: a bad day raises both losses, and cancels here because
    a cluster holds the rows of both arms. Rows whose score is no number are left out; see `scored`.
    """
    champion, challenger = scored(champion), scored(challenger)
    both = [*champion, *challenger]
    costs, rows = loss.costs(both, classes_of)
    clusters = clusters_of(both)[rows]
    is_old = rows < sum(len(outcome.labels) for outcome in champion)
    old, new = loss.capped(costs[is_old], costs[~is_old], error_cap)
    if not old.size or not new.size:
        return undefined(f"{loss.metric}_difference", costs.size)
    means = float(old.mean()), float(new.mean())
    change = loss.change(*means)
    influence = np.concatenate(
        [
            change.by_champion * (old - means[0]) / old.size,
            change.by_challenger * (new - means[1]) / new.size,
        ]
    )
    return _difference(loss, change, influence, clusters)


def costs_of(outcomes: Sequence[Outcomes], loss: RowLoss, classes_of: ClassesOf) -> Vector:
    """What each row of `outcomes` costs, [rows]."""
    if not outcomes:
        return np.empty(0)
    if all(outcome.scores.ndim == 1 for outcome in outcomes):
        return loss.rows(
            np.concatenate([outcome.scores for outcome in outcomes]),
            np.concatenate([outcome.labels for outcome in outcomes]),
        )
    return np.concatenate([_costs(outcome, loss, classes_of) for outcome in outcomes])


def _costs(outcome: Outcomes, loss: RowLoss, classes_of: ClassesOf) -> Vector:
    if outcome.scores.ndim == 1:
        return loss.rows(outcome.scores, outcome.labels)
    return loss.rows(outcome.scores, class_numbers(outcome.labels, classes_of(outcome.version)))


def _difference(loss: Loss, change: Change, influence: Vector, clusters: Clusters) -> Estimate:
    metric = f"{loss.metric}_difference"
    if math.isnan(change.value):
        return undefined(metric, influence.size)
    found = estimate(metric, change.value, influence, clusters, -math.inf, math.inf)
    value, low, high = map(loss.difference, (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)
