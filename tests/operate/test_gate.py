"""Challengers that may not become champions, and why."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from raymlops.errors import ClusterError, LedgerError, ReleaseError
from raymlops.operate import Challenger, releasing
from raymlops.operate.journal import Journal
from tests.operate.world import START, World, away, day, play


def test_a_challenger_that_is_no_better_is_refused_and_does_not_retrigger(world: World) -> None:
    world.challenger = world.champion
    with world.operator() as operator:
        decided = play(world, operator, 0, 20)
        assert decided == ["trigger: retrain", "gate: 1.0.0 refused", "trigger: suppressed"]
        # The cooldown of 13 days is over when the third week closes, as bad as the others.
        assert play(world, operator, 20, 21) == ["trigger: retrain"]
    assert world.tables == []


def sign_anew(world: World, signature: Any) -> None:
    """Has the challenger be another version of it, with that signature."""
    world.challenger = world.workspace.ledger.registry.register(
        "tumours",
        bundle=world.challenger.bundle,
        signature=json.dumps(signature),
        run_id=world.challenger.run_id,
        bump="major",
    )


def test_a_challenger_of_other_labels_is_held_against_nobody(world: World) -> None:
    """Labels fit the answers of one of both alone, so such a canary waited until `max_days`."""
    ledger = world.workspace.ledger
    signature = json.loads(ledger.text(world.challenger.signature_digest))
    signature["outputs"].append(
        {"name": "kind", "datatype": "BYTES", "nullable": False, "low": None, "high": None}
        | {"classes": ["benign", "malignant", "unclear"]}
    )
    sign_anew(world, signature)
    with world.operator() as operator:
        assert play(world, operator, 0, 8) == ["trigger: retrain", "gate: 2.0.0 refused"]
    told = "labels of tumours 2.0.0 are names of classes, those of tumours 1.0.0 0 and 1: none fits"
    assert told in ledger.decisions.list(model="tumours", kind="gate")[-1].why


def test_a_challenger_that_would_refuse_callers_gets_none_of_them(world: World) -> None:
    """Refused requests get no labels, and are their callers' fault to guards: such a canary kept
    its share of them until `max_days`."""
    ledger = world.workspace.ledger
    signature = json.loads(ledger.text(world.challenger.signature_digest))
    signature["inputs"][0] |= {"low": 10.0, "high": 11.0}
    sign_anew(world, signature)
    with world.operator() as operator:
        assert play(world, operator, 0, 8) == ["trigger: retrain", "gate: 2.0.0 refused"]
    told = r"tumours 2\.0\.0 refuses requests that tumours 1\.0\.0 takes"
    with pytest.raises(ReleaseError, match=told):
        releasing.release(world.workspace, world.challenger, now=START, who="ann", why="try")
    assert world.tables == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (None, "no labelled rows from 2024-01-01 to 2024-01-08 to compare them on"),
        (ZeroDivisionError("in the user's loss"), "in the user's loss"),
    ],
)
def test_what_cannot_be_judged_is_refused_and_not_trained_for_again(
    world: World, error: Exception | None, why: str
) -> None:
    def make(known_at: datetime) -> Challenger:
        world.trainings.append(known_at)
        if error is not None:
            raise error
        return Challenger(
            version=world.challenger, holdout=world.table.slice(0, 0), start=START, end=day(7)
        )

    world.make_challenger = make  # type: ignore[method-assign]
    with world.operator() as operator:
        play(world, operator, 0, 7)
        operator.wait_for_training(30.0)
        operator.tick(day(7.1))
    with world.operator() as operator:
        operator.tick(day(7.2))
    (gate,) = world.workspace.ledger.decisions.list(model="tumours", kind="gate")
    assert gate.outcome == "refused"
    assert gate.why == f"no challenger could be made and judged: {why}"
    assert len(world.trainings) == 1


@pytest.mark.parametrize("where", ["the verdict", "its record", "the scribe"])
def test_a_challenger_waits_for_its_gate_while_the_ledger_is_away(
    world: World, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It was refused for that, or trained in vain: nobody gated it until another operator came.
    def unreachable(*_: object) -> None:
        raise ClusterError("the ledger on the head node did not answer")

    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
        operator.wait_for_training(30)
        with monkeypatch.context() as patch:
            if where == "its record":
                patch.setattr(Journal, "add", away)
            else:
                fails = away if where == "the verdict" else unreachable
                patch.setattr("raymlops.operate.retraining.judge_challenger", fails)
            with pytest.raises((LedgerError, ClusterError)):
                operator.tick(day(7))
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7)]
