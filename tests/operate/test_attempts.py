"""When a training is tried again, and when no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from raymlops.errors import (
    DataError,
    IntegrityError,
    LedgerError,
    LostWorkerError,
    ModelError,
    NoRoomError,
    NotFoundError,
    OutOfMemoryError,
    PlanError,
    TrainingError,
    UnavailableError,
)
from raymlops.ledger import Decision
from raymlops.operate.attempts import Attempt, may_pass, newest_attempt, told_of, wait_after

NOW = datetime(2013, 7, 1, tzinfo=UTC)


def decision(kind: str, outcome: str, evidence: dict[str, object] | None = None) -> Decision:
    return Decision(
        id=1, model="m", kind=kind, outcome=outcome, who="w", why="", evidence=evidence or {},
        at=NOW, event_time=NOW, previous="", digest="",
    )  # fmt: skip


TRIGGER = decision("trigger", "retrain")


def test_waits_grow_and_come_to_an_end() -> None:
    hours = [wait and wait / timedelta(hours=1) for wait in map(wait_after, range(1, 7))]
    assert hours == [0.25, 1, 4, 16, None, None]


def test_the_newest_attempt_is_read_from_what_was_decided_since_its_trigger() -> None:
    failed = decision("training", "attempt 1 failed", told_of(1, NOW))
    second = decision("training", "attempt 2", told_of(2))
    held_back = decision("trigger", "suppressed")
    gate = decision("gate", "refused")
    for since, expected in [
        ((), (1, None)),
        ((failed,), (1, NOW)),
        ((failed, held_back), (1, NOW)),
        ((failed, second, held_back), (2, None)),
    ]:
        found = newest_attempt([TRIGGER, second, gate, TRIGGER, *since])
        assert found is not None
        assert (found.number, found.again_at) == expected
    assert newest_attempt([TRIGGER, failed, gate, held_back]) is None
    assert newest_attempt([]) is None


@pytest.mark.parametrize(
    ("hours", "is_over"), [(-1, True), (0, True), (1, False), (16, False), (17, True)]
)
def test_a_wait_that_was_told_by_a_clock_ahead_is_over(hours: float, is_over: bool) -> None:
    attempt = Attempt(trigger=TRIGGER, again_at=NOW + timedelta(hours=hours))
    assert attempt.is_over(NOW) is is_over
    assert not Attempt(trigger=TRIGGER).is_over(NOW)  # it is under way


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LostWorkerError("killed"), True),
        (NoRoomError("no room"), True),
        (OutOfMemoryError("killed"), True),
        (UnavailableError("the store is away"), True),
        (LedgerError("the database is away"), True),
        (DataError("the file is half written"), True),
        (PlanError("data=4", ("there is room for 2",), ()), True),  # a machine is down
        (TrainingError("the loss is nan"), False),
        (IntegrityError("other bytes"), False),
        (NotFoundError("no champion"), False),
        (ModelError("it cannot be exported"), False),
        (ZeroDivisionError("in the user's loss"), False),
    ],
)
def test_what_would_be_raised_again_is_not_tried_again(error: Exception, expected: bool) -> None:
    assert may_pass(error) is expected
