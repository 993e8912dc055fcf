"""A ledger that is away is told of, and nothing else waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from raymlops.errors import ClusterError, LedgerError, RaymlopsError, StaleLeaseError
from raymlops.ledger.overview import Overview
from raymlops.monitor.alerts import Sentinel, Signal
from tests.monitor.alerts.world import NOW, World
from tests.monitor.metrics.conftest import decide

LOST = Signal(name="replica", model="m", firing=True, severity="critical", summary="it is gone")


def away(error: RaymlopsError) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def watching(world: World) -> Callable[[float], None]:
    """One look after the other, of one sentinel."""
    sentinel = Sentinel(
        world.ledger, world.book, world.settings, [world.sink], watch=lambda: world.seen
    )

    def look(minutes: float) -> None:
        sentinel.look(NOW + timedelta(minutes=minutes))

    return look


def test_a_ledger_that_is_away_for_a_minute_is_told_until_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The sentinel broke off: with the database away nobody was told of anything."""
    look = watching(world)
    with monkeypatch.context() as outage:
        outage.setattr(Overview, "decisions_after", away(LedgerError("no answer")))
        look(0)
        assert world.sink.told == []
        world.seen = [LOST]
        look(0.5)
        assert world.sink.told == [("replica", "firing", "critical")]
        look(1)
        look(2)
    alert = world.sink.alerts[-1]
    assert world.sink.told[1:] == [("ledger", "firing", "critical")]
    assert alert.model == f"ledger {world.ledger.url}"
    assert alert.summary == "it has not answered since 12:00:00 UTC: no answer"
    assert caplog.messages.count("decisions are looked at once the ledger is back: no answer") == 1
    decide(world.ledger, "release", "1.0.1 rolled back")
    look(3)
    assert sorted(world.sink.told[2:]) == [
        ("ledger", "resolved", "critical"),
        ("release", "firing", "critical"),
    ]


@pytest.mark.parametrize("error", [LedgerError("restarts"), ClusterError("its scribe died")])
def test_an_outage_of_a_moment_is_not_told(
    error: RaymlopsError, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = watching(world)
    for minute in (0, 2):
        with monkeypatch.context() as outage:
            outage.setattr(Overview, "decisions_after", away(error))
            look(minute)
        look(minute + 0.5)
    assert world.sink.told == []


def test_what_is_no_outage_ends_the_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overview, "decisions_after", away(StaleLeaseError("another one")))
    with pytest.raises(StaleLeaseError):
        watching(world)(0)
