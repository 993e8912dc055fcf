"""From a decision in the ledger to what is told, and to whom."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest

from raymlops.monitor.alerts import (
    Alert,
    AlertSettings,
    Maintenance,
    Signal,
    Silence,
    signals_of,
)
from tests.monitor.alerts.world import NOW, World
from tests.monitor.metrics.conftest import MODEL, decide


def test_a_models_troubles_are_told_when_they_begin_and_when_they_are_over(world: World) -> None:
    decide(world.ledger, "gate", "1.0.2 refused", why="worse than the champion")
    world.look(1)
    decide(world.ledger, "gate", "1.0.3 refused")
    world.look(2)
    decide(world.ledger, "gate", "1.0.4 passed")
    decide(world.ledger, "release", "1.0.4 rolled back")
    world.look(3)
    decide(world.ledger, "release", "1.0.5 promoted")
    world.look(4)
    assert world.sink.told == [
        ("gate", "firing", "warning"),
        ("gate", "resolved", "warning"),
        ("release", "firing", "critical"),
        ("release", "resolved", "critical"),
    ]
    assert world.sink.alerts[0].summary == "gate 1.0.2 refused: worse than the champion"
    assert world.sink.alerts[0].model == MODEL
    assert world.book.read().letters == ()


@pytest.mark.parametrize(
    ("cause", "severity"),
    [
        ("performance", "critical"),
        ("expected", "warning"),
        ("drift", "warning"),
        ("concept", "warning"),
    ],
)
def test_what_a_trigger_saw_is_over_when_another_version_answers(
    world: World, cause: str, severity: str
) -> None:
    world.ledger.decisions.add(
        model=MODEL,
        kind="trigger",
        outcome="retrain",
        who="test",
        why="log loss rose",
        evidence={"cause": cause, "low": 0.7},
    )
    world.look(1)
    (alert,) = world.sink.alerts
    assert (alert.name, alert.severity) == (cause, severity)
    assert alert.evidence["low"] == 0.7
    decide(world.ledger, "alias", "champion -> 1.0.1")
    world.look(2)
    assert world.sink.told[1] == (cause, "resolved", severity)


def test_what_a_trigger_saw_is_over_when_windows_say_so(world: World) -> None:
    def write(kind: str, cause: str, left: tuple[str, ...] = ()) -> None:
        evidence = {"cause": cause, "left": left}
        world.ledger.decisions.add(
            model=MODEL, kind=kind, outcome="", who="test", why="", evidence=evidence
        )

    for cause in ("drift", "performance"):
        write("trigger", cause)
    decide(world.ledger, "gate", "1.0.2 refused")
    world.look(1)
    write("recovery", "drift", left=("performance",))
    world.look(2)
    assert world.sink.told[3:] == [("drift", "resolved", "warning")]
    write("recovery", "performance")
    world.look(3)
    assert world.sink.told[4:] == [
        ("performance", "resolved", "critical"),
        ("gate", "resolved", "warning"),  # nobody asks for a better model any more
    ]
    assert world.book.read().episodes == ()


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("release", "1.0.5 canary 20%"), ("alias", "champion -> 1.0.5"), ("recovery", "drift over")],
)
def test_a_release_that_was_rolled_back_is_over_with_the_next_step(
    world: World, kind: str, outcome: str
) -> None:
    """`status` called a healthy champion broken until another release was promoted."""
    decide(world.ledger, "release", "1.0.4 rolled back")
    world.look(1)
    evidence = {"cause": "drift", "left": []}
    world.ledger.decisions.add(
        model=MODEL, kind=kind, outcome=outcome, who="test", why="", evidence=evidence
    )
    world.look(2)
    assert world.sink.told == [
        ("release", "firing", "critical"),
        ("release", "resolved", "critical"),
    ]


def test_decisions_that_begin_and_end_nothing_are_only_logged(world: World) -> None:
    for kind, outcome in (("alias", "best -> 1.0.1"), ("register", "1.0.1"), ("dataset", "1")):
        decide(world.ledger, kind, outcome)
    world.look(1)
    assert world.sink.told == []
    assert [each.kind for each in world.logged] == ["alias", "register", "dataset"]
    assert all(signals_of(each) == () for each in world.logged)


def test_replicas_that_are_lost_are_told_while_they_are(world: World) -> None:
    world.seen.append(Signal(name="replica", model=MODEL, firing=True, severity="critical"))
    for minute in range(5):
        world.look(minute)
    world.seen[:] = [Signal(name="replica", model=MODEL, firing=False)]
    world.look(5)
    assert world.sink.told == [
        ("replica", "firing", "critical"),
        ("replica", "resolved", "critical"),
    ]


def test_a_silence_and_maintenance_keep_quiet(world: World) -> None:
    with world.book.open() as book:
        ends = NOW + timedelta(minutes=5)
        book.silences = (
            Silence(
                id="s", model="*", name="gate", starts_at=NOW, ends_at=ends, who="me", why="known"
            ),
        )
    decide(world.ledger, "gate", "1.0.2 refused")
    world.look(1)
    assert world.sink.told == []
    world.look(6)  # it has outlived the silence
    assert world.sink.told == [("gate", "firing", "warning")]
    assert world.book.read().silences == ()
    world.settings = AlertSettings(maintenance=(Maintenance(start="12:00", end="13:00"),))
    decide(world.ledger, "release", "1.0.2 rolled back")
    world.look(7)
    assert len(world.sink.told) == 1
    world.look(61)
    assert world.sink.told[1:] == [("release", "firing", "critical")]


def test_what_is_not_severe_enough_is_not_told(world: World) -> None:
    world.settings = AlertSettings(min_severity="critical")
    decide(world.ledger, "gate", "1.0.2 refused")
    decide(world.ledger, "release", "1.0.2 rolled back")
    world.look(1)
    assert world.sink.told == [("release", "firing", "critical")]


def test_the_book_forgets_the_oldest(world: World) -> None:
    alert = Alert.of(_episode(world))
    with world.book.open() as book:
        book.told = (alert,) * 700
    assert len(world.book.read().told) == 500


@pytest.mark.parametrize("wrong", ["every_s", "resolve_after_days"])
@pytest.mark.parametrize("value", [0, float("nan"), float("inf")])
def test_impossible_settings_are_refused(wrong: str, value: float) -> None:
    # With a rest that never ends the sentinel broke off at each start, and told nobody anything.
    with pytest.raises(ValueError, match=f"{wrong} is {value}, it must be positive"):
        AlertSettings(**{wrong: value})


def _episode(world: World):  # type: ignore[no-untyped-def]
    decide(world.ledger, "gate", "1.0.9 refused")
    world.look(1)
    return world.book.read().episodes[0]


def test_the_book_is_json_that_people_can_read(world: World) -> None:
    decide(world.ledger, "gate", "1.0.2 refused")
    world.look(1)
    fields = json.loads(world.book.path.read_text())
    assert fields["episodes"][0]["name"] == "gate"
    assert logging.getLogger("raymlops").name == "raymlops"
