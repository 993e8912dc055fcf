"""The loop with everything real but Ray: what triggers, is trained and passes its gate."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from raymlops.data import TableSchema
from raymlops.errors import (
    ClusterError,
    ConfigError,
    CoordinationError,
    LedgerError,
    LostWorkerError,
    ReleaseError,
    StaleLeaseError,
    UnavailableError,
)
from raymlops.ledger import Labels
from raymlops.ledger.fencing import Fence
from raymlops.monitor import DriftMonitor, WindowReport
from raymlops.monitor.concept import Baseline
from raymlops.operate import Challenger, Operator, Workspace, releasing
from raymlops.operate.journal import Journal
from raymlops.operate.retraining import Retraining
from raymlops.operate.triggers import RetrainPolicy
from raymlops.release import ReleaseController
from raymlops.serve import TrafficTable
from tests.operate.world import SECRET, START, World, away, day, killed, play, point, released


def test_a_bad_week_ends_in_a_new_champion(world: World) -> None:
    with world.operator() as operator:
        decided = play(world, operator, 0, 21)
    assert decided == [
        "trigger: retrain",
        "gate: 1.0.1 passed",
        "release: 1.0.1 canary 30%",
        "alias: challenger -> 1.0.1",
        "release: 1.0.1 canary 60%",
        "alias: champion -> 1.0.1",
        "release: 1.0.1 promoted",
    ]
    assert world.trainings == [day(7)]
    shares = [[(arm.name, arm.version, arm.share) for arm in t.arms] for t in world.tables]
    assert shares == [
        [("champion", "1.0.0", 0.7), ("canary", "1.0.1", 0.3)],
        [("champion", "1.0.0", 0.4), ("canary", "1.0.1", 0.6)],
        [("champion", "1.0.1", 1.0)],
    ]


def test_errors_that_rise_trigger_in_the_middle_of_a_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The champion errs on most rows, and 200 requests at 0.05 were learned as how it should be.
    retrain = RetrainPolicy(on=("concept",), cooldown_days=13)
    settings = replace(world.workspace.settings, retrain=retrain)
    monkeypatch.setattr(Workspace, "settings", settings)
    with world.operator() as operator:
        watch = operator._monitor.watch
        monkeypatch.setattr(
            DriftMonitor, "_baseline", lambda *_: Baseline(threshold=0.5, error_rate=0.05)
        )
        assert play(world, operator, 0, 1) == ["trigger: retrain"]
        assert watch("tumours") == ()
    first = world.workspace.ledger.decisions.list(model="tumours", kind="trigger")[0]
    assert first.evidence["cause"] == "concept"
    assert first.evidence["error_rate"] > 0.5
    # Alarms that were considered are not considered again, by the next operator either.
    world.challenger = world.champion
    with world.operator() as operator:
        operator.wait_for_training(30)
        assert [d.kind for d in operator.tick(day(1))] == ["gate"]
        assert operator.tick(day(1)) == ()
        assert play(world, operator, 1, 2) == ["trigger: suppressed"]


def test_a_challenger_that_is_no_better_is_refused_and_does_not_retrigger(world: World) -> None:
    world.challenger = world.champion
    with world.operator() as operator:
        decided = play(world, operator, 0, 20)
        assert decided == ["trigger: retrain", "gate: 1.0.0 refused", "trigger: suppressed"]
        # The cooldown of 13 days is over when the third week closes, as bad as the others.
        assert play(world, operator, 20, 21) == ["trigger: retrain"]
    assert world.tables == []


def test_labels_that_come_late_for_the_newest_window_may_call_for_a_new_model(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The week was as bad as any, and nobody was told: its labels came after its last day."""
    observations, late = world.workspace.ledger.observations, list[Labels]()
    with world.operator() as operator:
        with monkeypatch.context() as patch:
            patch.setattr(type(observations), "add_labels", lambda _, labels: late.extend(labels))
            assert play(world, operator, 0, 7) == []
        observations.add_labels(late)
        decided = [f"{each.kind}: {each.outcome}" for each in operator.tick(day(7.1))]
        assert decided == ["trigger: retrain"]
    (trigger,) = world.workspace.ledger.decisions.list(model="tumours", kind="trigger")
    assert trigger.evidence["window"] == "2024-01-01 to 2024-01-08"
    with world.operator() as operator:  # it calls once, also for one that has forgotten
        operator.wait_for_training(30)
        assert [each.kind for each in operator.tick(day(7.2))][:1] == ["gate"]
        assert "trigger" not in [each.kind for each in operator.tick(day(7.3))]


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


def test_an_operator_that_dies_is_replaced_at_the_same_step(world: World) -> None:
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
    # It died before the gate: the next one trains again, as of the same event time.
    with world.operator() as operator:
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7), day(7)]
    # It died during the canary: the next one publishes the same table and takes the next steps.
    published = world.tables[-1]
    with world.operator() as operator:
        assert world.tables[-1] == published
        assert len(world.tables) == 2
        assert play(world, operator, 8, 21)[-1] == "release: 1.0.1 promoted"


def test_a_release_that_an_operator_died_before_is_begun_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseController, "start", killed)
        with pytest.raises(KeyboardInterrupt), world.operator() as operator:
            play(world, operator, 0, 8)
    assert world.workspace.ledger.decisions.list(model="tumours")[-1].outcome == "1.0.1 passed"
    with world.operator() as operator:
        assert play(world, operator, 8, 9) == [
            "release: 1.0.1 canary 30%",
            "alias: challenger -> 1.0.1",
        ]
        assert play(world, operator, 9, 21)[-1] == "release: 1.0.1 promoted"
        assert play(world, operator, 21, 22) == []
    assert world.trainings == [day(7)]


def test_a_window_judged_for_an_operator_that_died_is_considered_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.live(day(0), day(7))
    assert len(world.monitor().advance("tumours", day(7))) == 1  # killed before it heard of it

    # Killed before the trigger was written, and after.
    for owner, method in ((Journal, "add"), (Retraining, "begin")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, killed)
            with pytest.raises(KeyboardInterrupt), world.operator() as operator:
                operator.tick(day(7))
    world.challenger = world.champion
    with world.operator() as operator:
        assert play(world, operator, 7, 8) == ["gate: 1.0.0 refused"]
    triggers = world.workspace.ledger.decisions.list(model="tumours", kind="trigger")
    assert [each.outcome for each in triggers] == ["retrain"]
    assert world.trainings == [day(7)]


def test_a_window_that_calls_for_nothing_is_not_considered_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.operator() as operator:
        considered: list[WindowReport] = []
        monkeypatch.setattr(
            "raymlops.operate.findings.find_trigger",
            lambda policy, report, *_: considered.append(report),
        )
        assert play(world, operator, 0, 16) == []
    assert [each.window.end for each in considered] == [day(7), day(14)]


@pytest.mark.parametrize(("cause", "told"), [("drift", 1), ("performance", 0)])
def test_drift_that_is_never_looked_for_is_warned_of_where_it_should_trigger(
    world: World, caplog: pytest.LogCaptureFixture, cause: str, told: int
) -> None:
    # A team with 48 requests a day thought it was watched for drift.
    config = world.workspace.home.parent / "tumours.yaml"
    overrides = [f"home={world.workspace.home}", f"retrain.on=[{cause}]"]
    with Workspace.open(config, overrides=overrides) as workspace:
        world.workspace = workspace
        with world.operator() as operator:
            world.live(day(0), day(7))
            operator.tick(day(7))
    warnings = [each.getMessage() for each in caplog.records if "not judged" in each.msg]
    assert len(warnings) == told
    if told:
        assert warnings == [
            "drift of tumours 1.0.0 is not judged in 2024-01-01 to 2024-01-08, and calls for no "
            "new model: it has 336 rows, monitor.drift.min_rows is 500; take longer windows, or "
            "set that lower"
        ]


def test_one_operator_watches_a_model(world: World) -> None:
    with world.operator(), pytest.raises(CoordinationError, match="is held by process"):
        world.operator().__enter__()


def test_an_operator_that_another_replaced_writes_and_publishes_nothing(world: World) -> None:
    ledger = world.workspace.ledger
    releases = ledger.releases
    releases.publish("tumours", TrafficTable.champion("tumours", "1.0.0").to_dict())
    with world.operator() as stale:
        assert stale._lease is not None
        newer = Fence(name=stale._lease.name, token=stale._lease.token + 1)
        with ledger.fenced(newer):  # its lock was lost while it slept
            point(world.workspace, world.challenger)
        before = ledger.decisions.list()
        with pytest.raises(StaleLeaseError, match="of the lock 'operator-tumours'"):
            stale.tick(day(7))
        assert ledger.decisions.list() == before
        assert world.tables == []


def test_the_schema_comes_from_the_settings(
    workspace: Workspace, tumour_schema: TableSchema
) -> None:
    assert [f.name for f in workspace.schema.features] == [f.name for f in tumour_schema.features]


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


def gate_of(world: World, who: str) -> None:
    world.workspace.ledger.decisions.add(
        model="tumours", kind="gate", outcome="1.0.1 passed", who=who, why="better", evidence={}
    )


def test_what_a_person_held_against_the_champion_is_released_by_nobody(world: World) -> None:
    # `jobs/retrain.py` without --release: a `watch` beside it released the challenger.
    gate_of(world, "jobs/retrain.py")
    with world.operator() as operator:
        assert operator.tick(day(1)) == ()
    gate_of(world, "raymlops operator")
    with world.operator() as operator:
        assert operator.tick(day(1))[0].outcome == "1.0.1 canary 30%"


def test_a_gate_of_a_person_answers_no_trigger(world: World) -> None:
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
    gate_of(world, "jobs/retrain.py")
    with world.operator() as operator:
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7), day(7)]


def test_a_trigger_is_answered_though_a_person_began_a_release(world: World) -> None:
    # An operator that found both went on with the release, and forgot the trigger.
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
        released(world, operator)
    with world.operator() as operator:
        operator.wait_for_training(30)
    assert world.trainings == [day(7), day(7)]


@pytest.mark.parametrize("where", ["the verdict", "its record"])
def test_a_challenger_waits_for_its_gate_while_the_ledger_is_away(
    world: World, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It was refused for that, or trained in vain: nobody gated it until another operator came.
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == ["trigger: retrain"]
        operator.wait_for_training(30)
        with monkeypatch.context() as patch:
            if where == "the verdict":
                patch.setattr("raymlops.operate.retraining.judge_challenger", away)
            else:
                patch.setattr(Journal, "add", away)
            with pytest.raises(LedgerError):
                operator.tick(day(7))
        assert play(world, operator, 7, 8)[0] == "gate: 1.0.1 passed"
    assert world.trainings == [day(7)]


def test_the_longest_name_there_may_be_can_be_watched(tmp_path: Path) -> None:
    # A longer one could be trained and deployed, and its operator not be made: ValueError.
    def overrides(length: int) -> list[str]:
        return [f"home={tmp_path / 'home'}", f"model={'m' * length}"]

    with (
        Workspace.open(overrides=overrides(180)) as workspace,
        workspace.coordinator.hold(f"operator-{workspace.model}") as lease,
    ):
        assert lease.name == f"operator-{'m' * 180}"
    with pytest.raises(ConfigError, match=r"model 'm{20}\.\.\.' has 181 characters"):
        Workspace.open(overrides=overrides(181))
