"""Operators that die or are replaced, and those that come after them."""

from __future__ import annotations

import pytest

from raymlops.coordination.base import Holder
from raymlops.coordination.embedded.lock import EmbeddedLock
from raymlops.errors import CoordinationError, StaleLeaseError
from raymlops.ledger.fencing import Fence
from raymlops.operate.journal import Journal
from raymlops.operate.retraining import Retraining
from raymlops.serve import TrafficTable
from tests.operate.world import World, day, killed, live_until_a_release_is_due, play, point


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
    live_until_a_release_is_due(world, monkeypatch)
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


def test_one_operator_watches_a_model(world: World) -> None:
    with world.operator(), pytest.raises(CoordinationError, match="is held by process"):
        world.operator().__enter__()


def test_an_operator_whose_lock_was_lost_goes_on_until_another_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its looks that wrote nothing went on beside those of the other, and said nothing of it."""
    with world.operator() as operator:
        assert operator._lease is not None
        operator._lease.end()  # as with a session of ZooKeeper
        assert operator.tick(day(0)) == ()
        token = operator._lease.token + 1
        other = Holder(owner="process 7 on b", token=token)
        with monkeypatch.context() as patch:
            patch.setattr(EmbeddedLock, "holder", lambda _: other)
            with pytest.raises(StaleLeaseError, match=r"and process 7 on b has held it since"):
                operator.tick(day(0))

        def away(_: EmbeddedLock) -> Holder:
            raise CoordinationError("there is no connection to ZooKeeper")

        monkeypatch.setattr(EmbeddedLock, "holder", away)
        assert operator.tick(day(0)) == ()
        assert "who holds the lock 'operator-tumours' now is unknown: there is no" in caplog.text


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
