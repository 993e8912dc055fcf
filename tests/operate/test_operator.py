"""The loop with everything real but Ray: what triggers, is trained and passes its gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raymlops.data import TableSchema
from raymlops.errors import ConfigError
from raymlops.ledger import Labels
from raymlops.monitor import DriftMonitor, WindowReport
from raymlops.monitor.concept import Baseline
from raymlops.operate import Operator, Workspace
from raymlops.operate.triggers import RetrainPolicy
from raymlops.serve import TrafficTable
from tests.operate.world import World, day, play, released, succession


def test_a_bad_week_ends_in_a_new_champion(world: World) -> None:
    with world.operator() as operator:
        decided = play(world, operator, 0, 21)
    assert decided == succession("1.0.1")
    assert world.trainings == [day(7)]
    shares = [[(arm.name, arm.version, arm.share) for arm in t.arms] for t in world.tables]
    assert shares == [
        [("champion", "1.0.0", 0.7), ("canary", "1.0.1", 0.3)],
        [("champion", "1.0.0", 0.4), ("canary", "1.0.1", 0.6)],
        [("champion", "1.0.1", 1.0)],
    ]


def test_a_model_whose_challengers_are_made_elsewhere_is_watched_and_released(
    world: World,
) -> None:
    """Nothing judged its windows, and no canary of it went on."""
    operator = Operator(
        world.workspace, monitor=world.monitor(), make_challenger=None, publish=world.tables.append
    )
    with operator:
        assert play(world, operator, 0, 8) == ["trigger: suppressed"]
        assert play(world, operator, 8, 9) == []
        operator._controller.start(world.challenger, now=day(9), who="ann", why="by hand")
        assert play(world, operator, 9, 21)[-2:] == [
            "alias: champion -> 1.0.1",
            "release: 1.0.1 promoted",
        ]
    (trigger, *_) = world.workspace.ledger.decisions.list(model="tumours", kind="trigger")
    assert trigger.why.endswith(
        "; but its challengers are made elsewhere: train one, register it, and `raymlops release "
        "tumours@VERSION`"
    )
    assert world.tables[-1] == TrafficTable.champion("tumours", "1.0.1")


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


def test_windows_are_considered_after_a_clock_that_was_ahead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock two weeks ahead a window was judged that had not begun: until its end came, none
    called for anything, and each was judged by the rows of its first hours."""
    considered: list[WindowReport] = []
    monkeypatch.setattr(
        "raymlops.operate.findings.find_trigger",
        lambda policy, report, *_: considered.append(report),
    )
    with world.operator() as operator:
        play(world, operator, 0, 8)
        world.live(day(21), day(22))
        operator.tick(day(28))
        assert [each.window.end for each in considered] == [day(7), day(14), day(28)]
    with world.operator() as operator:
        play(world, operator, 8, 21)
        operator.tick(day(27))
        # One that begins looks whether the newest window calls for more than it did.
        assert [each.window.end for each in considered[3:]] == [day(7), day(14), day(21)]
        operator.tick(day(28))
    assert [each.window.end for each in considered[6:]] == [day(28)]


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


def test_the_schema_comes_from_the_settings(
    workspace: Workspace, tumour_schema: TableSchema
) -> None:
    assert [f.name for f in workspace.schema.features] == [f.name for f in tumour_schema.features]


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
