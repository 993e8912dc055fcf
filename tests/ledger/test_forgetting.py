"""Old predictions leave the ledger with all that hangs on them, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from raymlops.errors import NotFoundError
from raymlops.ledger import Ledger, Prediction, forgetting
from tests.ledger.answers import START, labels, prediction

DAY = timedelta(days=1)


def answered(request_id: str, days: int) -> Prediction:
    return replace(prediction(request_id, hours=24 * days), served_at=START + days * DAY)


def forget(ledger: Ledger, *, days: int) -> list[int]:
    """How many each transaction removed."""
    observations, found = ledger.observations, []
    done = observations.forget("flights", before=START + days * DAY)
    found.append(done.num)
    while done.until is not None:
        done = observations.forget("flights", before=START + days * DAY, since=done.until)
        found.append(done.num)
    return found


def kept(ledger: Ledger) -> dict[str, int]:
    tables = ("predictions", "labels", "joins")
    with ledger.database.read() as connection:
        return {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
            for name in tables
        }


def test_what_is_old_goes_with_its_labels_a_few_at_a_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_AT_ONCE", 2)
    observations = ledger.observations
    rows = [answered(f"q{day}", day) for day in range(5)]
    another = replace(answered("q0", 0), model="trains", replica="r2")
    observations.add_tap("r1", 0, [], rows)
    observations.add_tap("r2", 0, [], [another])
    observations.add_labels([labels(row.request_id, 0, 1) for row in rows])

    assert observations.count_old("flights", before=START + 3 * DAY) == 3
    assert forget(ledger, days=3) == [2, 1]
    assert kept(ledger) == {"predictions": 3, "labels": 2, "joins": 2}
    assert [o.request_id for _, o in observations.joined("flights", after=0, limit=9)] == [
        "q3",
        "q4",
    ]
    assert observations.join_counts("flights") == {"joined": 5}
    assert forget(ledger, days=3) == [0]


def test_a_message_is_not_counted_again_whose_predictions_are_forgotten(ledger: Ledger) -> None:
    observations = ledger.observations
    assert observations.add_tap("r1", 0, [], [answered("q", 0)])
    forget(ledger, days=1)
    assert not observations.add_tap("r1", 0, [], [answered("q", 0)])
    assert kept(ledger)["predictions"] == 0


def test_an_old_event_that_was_answered_just_now_is_kept(ledger: Ledger) -> None:
    """As all of a replay are, whose labels are still to be told."""
    replayed = replace(answered("q", 0), served_at=START + 9 * DAY)
    ledger.observations.add_tap("r1", 0, [], [replayed])
    assert ledger.observations.count_old("flights", before=START + 5 * DAY) == 0
    assert forget(ledger, days=5) == [0]


def test_labels_are_kept_that_detectors_have_not_seen(ledger: Ledger) -> None:
    observations = ledger.observations
    observations.add_tap("r1", 0, [], [answered("shown", 0), answered("waits", 0)])
    observations.add_labels([labels("shown", 0, 1)])
    (number, _), *_ = observations.joined("flights", after=0, limit=9)
    ledger.watches.advance("flights", start=0, end=number, state={}, alarms=[])
    observations.add_labels([labels("waits", 0, 1)])

    assert forget(ledger, days=1) == [1]
    left = observations.joined("flights", after=number, limit=9)
    assert [outcome.request_id for _, outcome in left] == ["waits"]


def test_who_looks_for_one_is_told_that_it_may_be_forgotten(ledger: Ledger) -> None:
    decision = ledger.decisions.add(
        model="flights",
        kind=forgetting.KIND,
        outcome="1 predictions before 2013-04-02",
        who="ann",
        why="room",
        evidence={forgetting.BEFORE: START + DAY},
    )
    told = rf"'q'; those of flights before 2013-04-02 are forgotten \(decision {decision.id}\)$"
    with pytest.raises(NotFoundError, match=told):
        ledger.observations.prediction("q")
    with pytest.raises(NotFoundError, match=r"of trains for request 'q'$"):
        ledger.observations.prediction("q", "trains")
