"""Trainings that fail: begun again, given up, refused."""

from __future__ import annotations

import pytest

from raymlops.errors import ClusterError, LostWorkerError, UnavailableError
from raymlops.operate import Operator
from raymlops.operate.retraining import Retraining
from tests.operate.world import SECRET, World, day, play


def test_a_training_that_fails_is_a_refusal_with_its_reason(world: World) -> None:
    world.fails = True
    with world.operator() as operator:
        play(world, operator, 0, 8)
    gate = world.workspace.ledger.decisions.list(model="tumours", kind="gate")[-1]
    assert gate.outcome == "refused"
    assert gate.why == "no challenger could be made and judged: the store at *** is gone"


def look(world: World, operator: Operator, at: float) -> list[str]:
    """What is decided at that day once nothing is trained any more."""
    operator.wait_for_training(30)
    return [f"{d.kind}: {d.outcome}" for d in operator.tick(day(at))]


def test_what_a_training_failed_by_may_pass(world: World) -> None:
    # A worker that was killed, or a store that was away, cost a drifting model the whole cooldown.
    minute = 1 / 24 / 60
    world.failures = [
        LostWorkerError(f"worker 0 was lost: {SECRET.reveal()}"), UnavailableError("no answer")
    ]  # fmt: skip
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
        assert look(world, operator, 7) == ["training: attempt 1 failed"]
        assert look(world, operator, 7 + 14 * minute) == []
        assert look(world, operator, 7 + 15 * minute) == ["training: attempt 2"]
        assert look(world, operator, 7 + 16 * minute) == ["training: attempt 2 failed"]
        assert look(world, operator, 7 + 75 * minute) == []
    # Another operator waits as long, and begins no attempt of its own.
    with world.operator() as operator:
        assert look(world, operator, 7 + 75 * minute) == []
        assert look(world, operator, 7 + 76 * minute) == ["training: attempt 3"]
        assert look(world, operator, 7 + 77 * minute)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7)] * 3
    failed = world.workspace.ledger.decisions.list(model="tumours", kind="training")[0]
    assert failed.why == "worker 0 was lost: ***"


def test_a_training_that_fails_again_and_again_is_given_up(world: World) -> None:
    world.failures = [ClusterError("there is no room") for _ in range(9)]
    with world.operator() as operator:
        decided = play(world, operator, 0, 20)
    assert decided == [
        "trigger: retrain",
        "training: attempt 1 failed",
        "training: attempt 2",
        "training: attempt 2 failed",
        "training: attempt 3",
        "training: attempt 3 failed",
        "training: attempt 4",
        "training: attempt 4 failed",
        "trigger: suppressed",
        "training: attempt 5",
        "gate: refused",
    ]
    gate = world.workspace.ledger.decisions.list(model="tumours", kind="gate")[-1]
    assert gate.why == "no challenger could be made and judged in 5 attempts: there is no room"
    assert world.trainings == [day(7)] * 5


def test_a_training_that_kills_its_operator_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever restarted the operator had it killed for want of memory again, without an end.
    world.live(day(0), day(7))
    with monkeypatch.context() as patch:
        patch.setattr(Retraining, "begin", lambda self, _: world.trainings.append(day(7)))
        with world.operator() as operator:
            operator.tick(day(7))
        for _ in range(7):
            with world.operator():
                pass
    assert len(world.trainings) == 5
    (gate,) = world.workspace.ledger.decisions.list(model="tumours", kind="gate")
    assert gate.outcome == "refused"
    assert gate.why.startswith(
        "no challenger could be made and judged in 5 attempts: the operator was stopped, or killed"
    )
