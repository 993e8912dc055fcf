"""Labelled requests side by side, as windows are judged by them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from raymlops.ledger import Ledger, Outcome, Outcomes, labelled
from raymlops.ledger.records import Prediction, class_labels, number_labels
from tests.ledger.answers import START, labels, prediction

END = START + timedelta(days=9)


def requests(kind: str) -> list[tuple[Prediction, bytes]]:
    """Of two versions and arms, of 1 to 4 rows, on four days, some sliced by one feature and some
    by another or none."""
    found = []
    arms = itertools.cycle(itertools.product(("1.0.0", "1.0.1"), ("a", "b")))
    for number, (version, arm) in enumerate(itertools.islice(arms, 40)):
        num_rows = 1 + number % 4
        scores = np.arange(num_rows * (3 if kind == "classes" else 1), dtype="<f4") / 64
        mark = (None, 7, 9)[number % 3]
        slices = np.array([[mark or 0] * num_rows, np.arange(num_rows) + number], dtype="<u2")
        asked = replace(
            prediction(f"r{number:02}", 6 * (number % 16)),
            version=version,
            arm=arm,
            num_rows=num_rows,
            scores=scores.tobytes(),
            slices=None if mark is None else slices.tobytes(),
        )
        came = {
            "binary": bytes([number % 2] * num_rows),
            "numbers": number_labels(np.arange(num_rows) + number / 2),
            "classes": class_labels([f"c{number % 5}"] * num_rows),
        }
        found.append((asked, came[kind]))
    return found


def told_of_rows(found: list[Outcomes]) -> set[tuple[object, ...]]:
    """What is known of each row, with the number of rows of its request and the day of that."""
    rows = set()
    for each in found:
        for row, request in enumerate(each.request_of.tolist()):
            rows.add(
                (
                    each.version, each.arm, int(each.sizes[request]), int(each.days[request]),
                    tuple(np.atleast_1d(each.scores[row]).tolist()), each.labels[row],
                    None if each.slices is None else tuple(each.slices[:, row].tolist()),
                )
            )  # fmt: skip
    return rows


def one_by_one(outcome: Outcome) -> Outcomes:
    return Outcomes(
        version=outcome.version,
        arm=outcome.arm,
        sizes=np.array([len(outcome.labels)]),
        days=np.array([(outcome.event_time.date() - date(1970, 1, 1)).days]),
        scores=outcome.scores,
        labels=outcome.labels,
        slices=outcome.slices,
    )


@pytest.mark.parametrize("kind", ["binary", "numbers", "classes"])
@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_side_by_side_they_are_what_they_are_one_by_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, at_once: int, kind: str
) -> None:
    monkeypatch.setattr(labelled, "AT_ONCE", at_once)
    observations = ledger.observations
    asked = requests(kind)
    for number, (each, _) in enumerate(asked):  # what a message holds is sliced alike
        observations.add_tap("r", number, [], [each])
    told = [replace(labels(each.request_id), labels=came) for each, came in asked]
    assert observations.add_labels(told) == 40
    found = observations.outcomes("flights", start=START, end=END)
    joined = observations.joined("flights", after=0, limit=99)
    expected = told_of_rows([one_by_one(outcome) for _, outcome in joined])
    assert told_of_rows(found) == expected
    assert sum(each.sizes.size for each in found) == 40
    assert len(found) == 12  # two versions in two arms, sliced in two ways or not
    marks = [set() if each.slices is None else {*each.slices[0].tolist()} for each in found]
    assert sorted(map(sorted, marks)) == [[]] * 4 + [[7]] * 4 + [[9]] * 4


def test_a_request_takes_as_many_bytes_as_it_has_numbers(ledger: Ledger) -> None:
    """Each was some half a kilobyte of objects, and a window may hold millions."""
    observations = ledger.observations
    observations.add_tap("r", 0, [], [prediction(f"r{number}") for number in range(100)])
    observations.add_labels([labels(f"r{number}", 0, 1) for number in range(100)])
    (found,) = observations.outcomes("flights", start=START, end=END)
    arrays = (found.sizes, found.days, found.scores, found.labels)
    assert sum(each.nbytes for each in arrays) == 100 * (8 + 8 + 2 * 4 + 2 * 1)
    assert found.days.tolist() == [(START.date() - date(1970, 1, 1)).days] * 100


def test_what_is_left_of_requests_keeps_their_days() -> None:
    found = Outcomes(
        version="1.0.0",
        arm="a",
        sizes=np.array([2, 1, 3]),
        days=np.array([5, 6, 7]),
        scores=np.arange(6, dtype=np.float32),
        labels=np.arange(6),
        slices=np.zeros((1, 6), np.uint16),
    )
    assert found.request_of.tolist() == [0, 0, 1, 2, 2, 2]
    left = found.only(np.array([False, True, False, True, False, True]))
    assert (left.sizes.tolist(), left.days.tolist()) == ([1, 2], [5, 7])
    assert (left.scores.tolist(), left.labels.tolist()) == ([1.0, 3.0, 5.0], [1, 3, 5])
    assert left.slices is None
