"""Predictions and what came true of them, whichever comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from raymlops.errors import NotFoundError
from raymlops.ledger import (
    JoinPolicy,
    Ledger,
    Prediction,
    TapMessage,
    class_labels,
    joins,
    number_labels,
)
from tests.ledger.answers import START, labels, prediction


def test_labels_join_late_early_twice_or_never(ledger: Ledger) -> None:
    observations = ledger.observations
    observations.add_labels([labels("early", 0, 1)])
    observations.add_tap("r1", 0, [], [prediction(x) for x in ("early", "late", "never", "short")])
    assert observations.add_labels([labels("late", 1, 1), labels("late", 0, 0)]) == 1
    assert observations.add_labels([labels("late", 1, 1), labels("short", 1)]) == 0

    (found,) = observations.outcomes("flights", start=START, end=START + timedelta(hours=1))
    assert (found.sizes.tolist(), found.labels.tolist()) == ([2, 2], [0, 1, 1, 1])
    assert found.scores.tolist()[:2] == [0.25, 0.75]
    assert observations.join_counts("flights") == {
        "waiting": 1,
        "joined": 2,
        "contradicted": 1,
        "repeated": 1,
        "misfit": 1,
    }


def short(request_id: str) -> Prediction:
    return replace(prediction(request_id), scores=b"\0\0\0\0", num_rows=1, replica="r2")


@pytest.mark.parametrize(("values", "fate"), [((0, 1), "misfit"), ((1,), "joined")])
def test_labels_join_the_answer_that_is_kept_of_two_under_one_id(
    ledger: Ledger, values: tuple[int, ...], fate: str
) -> None:
    """Held against the last, they joined the first, and no window was ever judged again."""
    observations = ledger.observations
    observations.add_labels([labels("a", *values)])
    observations.add_taps(
        [TapMessage("r2", 0, [], [short("a")]), TapMessage("r1", 0, [], [prediction("a")])]
    )
    assert observations.prediction("a").num_rows == 1
    assert observations.join_counts("flights") == {"waiting": 1, fate: 1}
    found = observations.outcomes("flights", start=START, end=START + timedelta(hours=1))
    assert [outcome.labels.tolist() for outcome in found] == [[1]] * (fate == "joined")


def test_what_was_joined_and_does_not_fit_is_left_out(ledger: Ledger) -> None:
    """Ledgers hold such rows from when labels were held against another answer."""
    observations = ledger.observations
    observations.add_tap("r2", 0, [], [short("a"), short("b"), short("c")])
    five = replace(labels("b"), labels=bytes(5))  # as many bytes as one number has
    with ledger.database.write() as connection:
        joins._join(connection, [labels("a", 0, 1), five])
    observations.add_labels([replace(labels("c"), labels=number_labels(np.array([0.5])))])
    joined = observations.joined("flights", after=0, limit=10)
    found = observations.outcomes("flights", start=START, end=START + timedelta(hours=1))
    assert [each.labels.tolist() for each in (*found, *(each for _, each in joined))] == [[0.5]] * 2


def test_joins_are_a_log_in_the_order_of_completion(ledger: Ledger) -> None:
    observations = ledger.observations
    observations.add_labels([labels("c", 1, 1)])
    observations.add_tap("r1", 0, [], [prediction("a"), prediction("b"), prediction("c")])
    observations.add_labels([labels("b", 0, 0)])
    observations.add_labels([labels("a", 0, 1), labels("b", 0, 0)])
    log = observations.joined("flights", after=0, limit=10)
    assert [outcome.request_id for _, outcome in log] == ["c", "b", "a"]
    first = log[0][0]
    rest = observations.joined("flights", after=first, limit=1)
    assert [outcome.request_id for _, outcome in rest] == ["b"]
    assert observations.joined("others", after=0, limit=10) == []


def test_labels_that_wait_are_bounded_by_number_and_age(ledger: Ledger) -> None:
    observations, policy = ledger.observations, JoinPolicy(max_waiting=2, max_age_days=10)
    old = replace(labels("old", 0, 1), at=START - timedelta(days=11))
    assert observations.add_labels([old], policy) == 1
    for name in ("a", "b", "c", "d"):
        observations.add_labels([labels(name, 0, 1)], policy)
    assert observations.join_counts("flights") == {"waiting": 5, "expired": 1, "overflow": 2}
    observations.add_taps(
        [TapMessage("r1", 0, [], [prediction(x) for x in ("old", "a", "b", "c", "d")])], policy
    )
    log = observations.joined("flights", after=0, limit=10)
    assert sorted(outcome.request_id for _, outcome in log) == ["c", "d"]


def test_labels_that_were_told_by_a_clock_ahead_expire_no_others(ledger: Ledger) -> None:
    """`labels --as-of` with a wrong year dropped all labels of the model that waited."""
    observations = ledger.observations
    observations.add_labels([replace(labels("a", 0, 1), at=datetime.now(UTC))])
    ahead = replace(labels("b", 0, 1), at=datetime.now(UTC) + timedelta(days=365))
    observations.add_labels([ahead])
    assert observations.join_counts("flights") == {"waiting": 2}
    served = datetime.now(UTC) - timedelta(hours=1)
    known = [replace(prediction(name), event_time=served) for name in "ab"]
    observations.add_tap("r1", 0, [], known)
    assert observations.join_counts("flights") == {"waiting": 2, "joined": 2}


def test_labels_that_follow_too_late_are_counted_and_left_out(ledger: Ledger) -> None:
    observations, policy = ledger.observations, JoinPolicy(max_age_days=10)
    observations.add_tap("r1", 0, [], [prediction("a")])
    late = replace(labels("a", 0, 1), at=START + timedelta(days=11))
    assert observations.add_labels([late], policy) == 0
    assert observations.join_counts("flights") == {"too_late": 1}
    assert observations.joined("flights", after=0, limit=10) == []


def test_impossible_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="max_age_days is 0, it must be positive"):
        JoinPolicy(max_age_days=0, max_waiting=5)


def of(model: str, request_id: str) -> Prediction:
    return replace(prediction(request_id), model=model, replica=model)


@pytest.mark.parametrize("labels_first", [False, True])
def test_models_asked_under_one_id_are_told_apart(ledger: Ledger, labels_first: bool) -> None:
    observations = ledger.observations
    told = [labels("q", 0, 1), replace(labels("q", 1, 1), model="delays")]
    if labels_first:
        assert observations.add_labels(told) == 2
    for model in ("flights", "delays"):
        observations.add_tap(model, 0, [], [of(model, "q")])
    if not labels_first:
        assert observations.add_labels(told) == 2
    for model, values in (("flights", [0, 1]), ("delays", [1, 1])):
        assert observations.count_predictions(model) == 1
        assert observations.prediction("q", model) == of(model, "q")
        assert observations.join_counts(model)["joined"] == 1
        ((_, joined),) = observations.joined(model, after=0, limit=9)
        (outcome,) = observations.outcomes(model, start=START, end=START + timedelta(days=1))
        assert joined.labels.tolist() == outcome.labels.tolist() == values
    with pytest.raises(NotFoundError, match="answered by delays, flights; name one of them"):
        observations.prediction("q")
    with pytest.raises(NotFoundError, match="no prediction of other for request 'q'"):
        observations.prediction("q", "other")


def test_classes_join_probabilities_of_several_and_nothing_else(ledger: Ledger) -> None:
    observations = ledger.observations
    three = replace(prediction("a"), scores=np.arange(6, dtype="<f4").tobytes())
    came = replace(labels("a"), labels=class_labels(["versicolor", "größer"]))
    odd = [
        replace(came, labels=class_labels(["versicolor"])),
        replace(came, labels=labels("a", 0, 1).labels),
        replace(came, labels=b"c]"),
    ]
    observations.add_tap("r1", 0, [], [three, replace(three, request_id="c"), prediction("b")])
    assert observations.join_labels(odd) == {"misfit": 3}
    other = replace(came, request_id="b")
    assert observations.join_labels([other]) == {"misfit": 1}
    assert observations.join_labels([came, came]) == {"joined": 1, "repeated": 1}
    waiting = replace(came, request_id="later", labels=class_labels([7, 3]))
    assert observations.join_labels([waiting]) == {"waiting": 1}
    observations.add_tap("r1", 1, [], [replace(three, request_id="later")])
    (found,) = observations.outcomes("flights", start=START, end=START + timedelta(days=1))
    assert found.scores.tolist()[:2] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert found.labels.tolist() == ["versicolor", "größer", 7, 3]
    assert len(observations.joined("flights", after=0, limit=10)) == 2
