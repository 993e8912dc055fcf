"""Alerts reach their receivers through failures, kills and restarts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from raymlops.config import Secret
from raymlops.ledger import Decision
from raymlops.monitor.alerts import (
    Alert,
    DeliveryError,
    Sentinel,
)
from raymlops.monitor.alerts import sentinel as sentinel_module
from tests.monitor.alerts.receivers import Hook, manager, webhook
from tests.monitor.alerts.world import NOW, SETTINGS, Recorder, World
from tests.monitor.metrics.conftest import decide


def test_a_sink_that_is_away_is_tried_again_in_order(world: World) -> None:
    world.sink.error = DeliveryError("it is away")
    decide(world.ledger, "gate", "1.0.2 refused")
    world.look(1)
    decide(world.ledger, "gate", "1.0.3 passed")
    world.look(1.1)
    assert [letter.attempts for letter in world.book.read().letters] == [1, 0]
    world.sink.error = None
    world.look(1.15)  # not due yet
    assert world.sink.told == []
    world.look(2)
    assert world.sink.told == [("gate", "firing", "warning"), ("gate", "resolved", "warning")]


def test_what_cannot_be_delivered_is_kept_and_can_be_sent_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    secret = Secret("open-sesame-2")
    world.sink.error = DeliveryError(f"no {secret.reveal()} there")
    decide(world.ledger, "gate", "1.0.2 refused")
    for minute in (1, 2, 3, 4, 5):
        world.look(minute)
    (letter,) = world.book.read().dead
    assert letter.dead_because == "3 attempts failed, the last: no *** there"
    assert "did not reach recorder: no *** there" in caplog.text
    world.sink.error = None
    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [world.sink])
    assert sentinel.resend(NOW + timedelta(hours=1)) == 1
    assert world.sink.told == [("gate", "firing", "warning")]
    assert world.book.read().letters == ()
    assert sentinel.resend(NOW + timedelta(hours=1)) == 0


def test_what_is_over_is_over_after_letters_are_sent_again(world: World) -> None:
    """Its beginning was given up, its end arrived, and then its beginning was sent again: whoever
    was told took it for open, for ever."""
    world.sink.error = DeliveryError("it is away")
    decide(world.ledger, "gate", "1.0.2 refused")
    for minute in (1, 2, 3, 4):
        world.look(minute)
    assert len(world.book.read().dead) == 1
    world.sink.error = None
    decide(world.ledger, "gate", "1.0.3 passed")
    world.look(5)
    assert world.sink.told == [("gate", "resolved", "warning")]
    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [world.sink])
    assert sentinel.resend(NOW + timedelta(hours=1)) == 1
    assert world.sink.told[1:] == [
        ("gate", "firing", "warning"),
        ("gate", "resolved", "warning"),
    ]
    assert world.book.read().letters == ()


def test_sending_again_leaves_what_others_are_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A person without the configuration of the mail once ended the letters that waited for it."""
    world.sink.error = DeliveryError("it is away")
    decide(world.ledger, "gate", "1.0.2 refused")
    for minute in (1, 2, 3):
        world.look(minute)
    decide(world.ledger, "release", "1.0.1 rolled back")
    world.look(4)
    before = world.book.read().letters
    assert [letter.is_dead for letter in before] == [True, False]
    other = Recorder("other")
    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [other])
    assert sentinel.resend(NOW + timedelta(hours=1)) == 0
    assert world.book.read().letters == before
    assert "dead letters to recorder are left: no such sink is set here" in caplog.text
    world.sink.error = None
    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [world.sink])
    assert sentinel.resend(NOW + timedelta(hours=1)) == 1
    assert world.sink.told == [("gate", "firing", "warning")]
    assert world.book.read().letters == before[1:]


def test_a_broken_sink_keeps_its_own_letters_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A webhook whose token was not ASCII once kept all sinks from every alert to come."""

    class Broken(Recorder):
        def send(self, alert: Alert) -> None:
            raise ValueError("no token open-sesame-3")

    Secret("open-sesame-3")
    decide(world.ledger, "gate", "1.0.2 refused")
    sinks = [Broken("broken"), world.sink]
    Sentinel(world.ledger, world.book, SETTINGS, sinks).look(NOW)
    assert world.sink.told == [("gate", "firing", "warning")]
    (letter,) = world.book.read().letters
    assert letter.dead_because == "refused: ValueError: no token ***"
    assert "did not reach broken: ValueError: no token ***" in caplog.text


def test_a_sink_that_is_set_no_more_has_dead_letters(world: World) -> None:
    world.sink.error = DeliveryError("it is away")
    decide(world.ledger, "gate", "1.0.2 refused")
    world.look(1)
    world.sink = Recorder(name="another")
    world.look(2)
    (letter,) = world.book.read().dead
    assert letter.dead_because == "refused: the sink is not set any more"


def test_a_kill_between_sending_and_writing_repeats_under_the_same_id(world: World) -> None:
    class Killed(Recorder):
        def send(self, alert: Alert) -> None:
            super().send(alert)
            raise KeyboardInterrupt

    world.sink = Killed()
    decide(world.ledger, "gate", "1.0.2 refused")
    with pytest.raises(KeyboardInterrupt):
        world.look(1)
    (first,) = world.sink.alerts
    world.sink = Recorder()
    world.look(2)
    assert world.sink.alerts == [first]


def test_a_kill_while_the_book_is_open_changes_nothing(world: World) -> None:
    decide(world.ledger, "gate", "1.0.2 refused")
    before = world.book.read()

    def die(_: Decision) -> None:
        raise KeyboardInterrupt

    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [world.sink], log=die)
    with pytest.raises(KeyboardInterrupt):
        sentinel.look(NOW)
    assert world.book.read() == before
    world.look(1)
    assert world.sink.told == [("gate", "firing", "warning")]


def test_a_real_receiver_that_answers_503_once_is_told_in_the_end(world: World) -> None:
    with webhook() as hook:
        assert isinstance(hook, Hook)
        hook.statuses += [503, 429]
        world.sink = hook.sink  # type: ignore[assignment]
        decide(world.ledger, "release", "1.0.2 rolled back")
        for minute in range(4):
            world.look(minute)
        assert [told.severity for told in hook.told()] == ["critical"]


@dataclass
class Hanging(Recorder):
    """A sink that takes for ever, as a server does that answers byte by byte."""

    name: str = "hanging"
    answer: Event = field(default_factory=Event)

    def send(self, alert: Alert) -> None:
        assert self.answer.wait(30)
        super().send(alert)


def test_a_sink_that_hangs_keeps_only_its_own_alerts_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timeout ended a send whose server sent a byte now and then, and every other sink waited
    for it, and every look."""
    monkeypatch.setattr(sentinel_module, "_PATIENCE_S", 0.2)
    hanging = Hanging()
    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [hanging, world.sink])
    decide(world.ledger, "gate", "1.0.2 refused")
    sentinel.look(NOW)
    decide(world.ledger, "gate", "1.0.3 passed")
    sentinel.look(NOW + timedelta(minutes=1))
    told = [("gate", "firing", "warning"), ("gate", "resolved", "warning")]
    assert (world.sink.told, hanging.told) == (told, [])
    hanging.answer.set()
    monkeypatch.setattr(sentinel_module, "_PATIENCE_S", 30.0)
    while len(hanging.told) < 2:
        sentinel.look(NOW + timedelta(minutes=2))
    assert hanging.told == told
    assert not world.book.read().letters


def test_what_breaks_a_delivery_ends_the_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Sentinel, "_try", full)
    decide(world.ledger, "gate", "1.0.2 refused")
    with pytest.raises(OSError, match="no space left"):
        world.look(1)


@dataclass
class Amnesiac(Recorder):
    name: str = "amnesiac"
    repeat_every_s: float = 60.0


def test_a_sink_that_forgets_is_told_again_of_what_is_not_over(world: World) -> None:
    forgetful = Amnesiac()
    settings = replace(SETTINGS, min_severity="warning")
    sentinel = Sentinel(world.ledger, world.book, settings, [forgetful, world.sink])
    decide(world.ledger, "gate", "1.0.2 refused")
    for seconds in (0, 30, 61, 90):
        sentinel.look(NOW + timedelta(seconds=seconds))
    again = ("gate", "firing", "warning")
    assert (forgetful.told, world.sink.told) == ([again] * 3, [again])
    forgetful.error = DeliveryError("it is away")
    sentinel.look(NOW + timedelta(seconds=130))
    assert not world.book.read().letters
    forgetful.error = None
    decide(world.ledger, "gate", "1.0.3 passed")
    for seconds in (150, 400):
        sentinel.look(NOW + timedelta(seconds=seconds))
    assert forgetful.told[3:] == [("gate", "resolved", "warning")]


def test_an_alertmanager_that_was_started_again_knows_what_is_open(
    world: World, tmp_path: Path
) -> None:
    """It keeps nothing on its disk, so nobody was reminded any more of what was still wrong."""
    decide(world.ledger, "release", "1.0.2 rolled back")
    for minute in (0, 1):
        with manager(tmp_path) as found:
            Sentinel(world.ledger, world.book, SETTINGS, [found.sink]).look(
                NOW + timedelta(minutes=minute)
            )
            assert [told.severity for told in found.told()] == ["critical"]


def test_letters_are_sent_again_beside_a_sink_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`alerts resend` waited for the sink that hung, and sent nobody else's letters."""
    hanging = Hanging(error=DeliveryError("it is away"))
    hanging.answer.set()
    world.sink.error = DeliveryError("it is away")
    sentinel = Sentinel(world.ledger, world.book, SETTINGS, [hanging, world.sink])
    decide(world.ledger, "gate", "1.0.2 refused")
    for minute in range(4):
        sentinel.look(NOW + timedelta(minutes=minute))
    assert len(world.book.read().dead) == 2
    hanging.error = world.sink.error = None
    hanging.answer.clear()
    monkeypatch.setattr(sentinel_module, "_LONGEST_S", 0.5)
    assert sentinel.resend(NOW + timedelta(hours=1)) == 2
    assert world.sink.told == [("gate", "firing", "warning")]
    assert [(each.sink, each.is_dead) for each in world.book.read().letters] == [("hanging", False)]
    assert "hanging does not answer; letters to it are left waiting" in caplog.text
    hanging.answer.set()
