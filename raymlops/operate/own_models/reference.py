"""What a model's answers to its rows are kept for: traffic to come is held against them."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raymlops.data import Columns, Feature, Profile
from raymlops.data.projections import read_by
from raymlops.errors import ModelError
from raymlops.ledger.figures import shown_figure
from raymlops.models import Postprocessing
from raymlops.monitor.measures import orders
from raymlops.operate.own_models.asked import Asked

_ROUNDING = 1e-4

_logger = logging.getLogger(__name__)


def profile_of(
    asked: Asked,
    labels: NDArray[np.float64],
    said: NDArray[np.float32],
    queries: NDArray[np.int64],
    postprocessing: Postprocessing,
) -> Profile:
    """The profile of what was `asked`, of which it `said` what is watched, [rows] or [rows,
    classes], and of which `labels` came true; rows of an order are of one of `queries` each.

    Raises:
        ModelError: what it says is no probability, or its error cannot be told.
    """
    columns = read_by(asked.projections, asked.columns)
    found = _of_columns(columns, labels, said, queries, postprocessing)
    return replace(found, projections=asked.projections)


def _of_columns(
    columns: Columns,
    labels: NDArray[np.float64],
    said: NDArray[np.float32],
    queries: NDArray[np.int64],
    postprocessing: Postprocessing,
) -> Profile:
    features = [Feature(name=each, kind="number") for each in columns]
    if postprocessing.classes:
        return _of_classes(features, columns, labels.astype(np.int64), said, postprocessing)
    if postprocessing.is_regression:
        return _of_numbers(features, columns, labels, said)
    if postprocessing.is_ranking:
        return _of_order(features, columns, labels, said, queries)
    return _of_event(features, columns, labels, said, postprocessing)


def _of_event(
    features: list[Feature],
    columns: Columns,
    labels: NDArray[np.float64],
    said: NDArray[np.float32],
    postprocessing: Postprocessing,
) -> Profile:
    from raymlops.train.tabular.quality import judge

    probabilities, label_rate = _probabilities(said), float(labels.mean())
    log_loss = judge(probabilities, labels).log_loss
    _warn_if_worse(
        "log loss",
        log_loss,
        judge(np.full(len(labels), label_rate), labels).log_loss,
        naive="always saying how frequent 1 is",
        ask="does the model say the probability of 1, and not of 0",
    )
    return Profile.of(
        features, columns, said, label_rate=label_rate, log_loss=log_loss
    ).with_reliability(probabilities, labels, threshold=postprocessing.threshold)


def _of_numbers(
    features: list[Feature],
    columns: Columns,
    labels: NDArray[np.float64],
    said: NDArray[np.float32],
) -> Profile:
    errors = (said - labels)[~np.isnan(said)]  # as windows leave out what it says nothing of
    if not errors.size or np.isinf(errors).any():
        raise ModelError(
            f"of {len(said)} rows the model says {len(errors)} numbers, "
            f"{int(np.isinf(errors).sum())} of them infinite: its error cannot be told"
        )
    found = Profile.of_numbers(
        features, columns, said, label_mean=float(labels.mean()), errors=errors
    )
    _warn_if_worse(
        "RMSE",
        found.loss,
        float(labels.std()),
        naive="always saying their mean",
        ask="does the model say the label in its own unit",
    )
    return found


def _of_order(
    features: list[Feature],
    columns: Columns,
    relevance: NDArray[np.float64],
    said: NDArray[np.float32],
    queries: NDArray[np.int64],
) -> Profile:
    losses, by_chance = _losses(said, relevance, queries)
    found = Profile.of_rankings(
        features, columns, said, label_mean=float(relevance.mean()), losses=losses
    )
    _warn_if_worse(
        "NDCG loss",
        found.loss,
        float(by_chance.mean()),
        naive="a random order",
        ask="does it say the largest of the most relevant rows",
    )
    return found


def _losses(
    said: NDArray[np.float32], relevance: NDArray[np.float64], queries: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the NDCG of each query lacks of 1, and would in a random order; rows of which the model
    says nothing are left out, as windows do."""
    known = np.isfinite(said)
    scores = said[known].astype(np.float64)
    found, by_chance = (
        1.0 - orders(each, relevance[known], queries[known]).ndcg
        for each in (scores, np.zeros_like(scores))
    )
    if not found.size:
        raise ModelError(
            f"in none of {len(np.unique(queries))} queries is a row that the model says a number "
            "of of any use (above 0), so nothing tells a good order from a bad one"
        )
    return found, by_chance


def _of_classes(
    features: list[Feature],
    columns: Columns,
    labels: NDArray[np.int64],
    said: NDArray[np.float32],
    postprocessing: Postprocessing,
) -> Profile:
    from raymlops.train.tabular.quality import class_rates, constant_loss, judge_classes

    probabilities, classes = _probabilities(said), postprocessing.classes
    if (off := np.abs(probabilities.sum(axis=1) - 1.0)).max() > _ROUNDING:
        raise ModelError(
            f"the model says {probabilities[off.argmax()].tolist()} of one row, and probabilities "
            "of all classes add up to 1: give reads='logit'"
        )
    rates = class_rates(labels, len(classes))
    log_loss = judge_classes(probabilities, labels).log_loss
    _warn_if_worse(
        "log loss",
        log_loss,
        constant_loss(labels, rates),
        naive="always saying how frequent each class is",
        ask="are the classes in the order of the model's columns, " + ", ".join(map(repr, classes)),
    )
    return Profile.of_classes(
        features, columns, said, classes, class_rates=rates, log_loss=log_loss
    ).with_certainty(probabilities, labels)


def _warn_if_worse(metric: str, loss: float, guess: float, *, naive: str, ask: str) -> None:
    """A model that a guess beats on `rows` has mostly been registered for another than it is."""
    if 0.0 < guess < loss:
        _logger.warning(
            "its %s is %s on these rows; %s costs %s: %s?",
            metric,
            shown_figure(loss),
            naive,
            shown_figure(guess),
            ask,
        )


def _probabilities(said: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those that a forest adds up in float32 are a little off."""
    probabilities = np.clip(said, 0.0, 1.0)
    if (off := np.abs(said - probabilities)).max() > _ROUNDING:
        raise ModelError(
            f"the model says {said.flat[off.argmax()]:g}, which is no probability: give "
            "reads='logit', or for numbers reads='number'"
        )
    return probabilities
