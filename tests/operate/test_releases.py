"""Releases that an operator carries on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from raymlops.errors import ReleaseError, UnservableError
from raymlops.operate import Operator, Workspace, rollback
from raymlops.serve import TrafficTable
from tests.operate.world import (
    WINDOW_DAYS,
    World,
    day,
    deployed,
    play,
    point,
    published,
    released,
    seen,
)


def test_a_release_that_turns_bad_is_rolled_back(world: World) -> None:
    # The truth is served, and a challenger that has learned the opposite was released by hand.
    world.champion, world.challenger = world.challenger, world.champion
    point(world.workspace, world.champion)
    with world.operator() as operator:
        operator._controller.start(world.challenger, now=day(0), who="test", why="by hand")
        decided = play(world, operator, 0, 6)
    assert decided == ["release: 1.0.0 rolled back"]
    assert world.tables[-1] == TrafficTable.champion("tumours", "1.0.1")
    assert str(world.workspace.ledger.registry.alias("tumours", "champion")) == "1.0.1"


def test_a_challenger_that_cannot_be_served_is_rolled_back(world: World) -> None:
    def publish(table: TrafficTable) -> None:
        if len(table.arms) > 1:
            raise ReleaseError("table 2 of tumours is refused: IntegrityError")
        world.tables.append(table)

    operator = Operator(
        world.workspace,
        monitor=world.monitor(),
        make_challenger=world.make_challenger,
        publish=publish,
    )
    with operator:
        decided = play(world, operator, 0, 8)
    assert decided[-3:] == [
        "release: 1.0.1 canary 30%", "alias: challenger -> 1.0.1", "release: 1.0.1 rolled back",
    ]  # fmt: skip
    assert world.tables == [TrafficTable.champion("tumours", "1.0.0")]
    ledger = world.workspace.ledger
    assert ledger.releases.running("tumours") is None
    assert ledger.decisions.list(model="tumours")[-1].why == (
        "it cannot be served: table 2 of tumours is refused: IntegrityError"
    )


def test_a_canary_whose_replicas_are_away_at_a_step_goes_on(world: World) -> None:
    """It was rolled back where its machine was started anew, and nobody answered for a minute."""
    away: list[ReleaseError] = []

    def publish(table: TrafficTable) -> None:
        world.tables.append(table)
        if away and len(table.arms) > 1:
            raise away.pop()

    with world.operator() as operator:
        operator._publish_unfenced = publish
        release = released(world, operator)
        away.append(ReleaseError("table 3 of tumours is followed by [] after 60 s"))
        with pytest.raises(ReleaseError, match="table 3 of tumours"):
            play(world, operator, 0, 8)
        assert world.workspace.ledger.releases.get(release.id).status == "running"
        play(world, operator, 8, 16)
    assert world.workspace.ledger.releases.get(release.id).status == "promoted"


def test_a_canary_that_no_replica_can_load_any_more_is_rolled_back(world: World) -> None:
    broken: list[ReleaseError] = []

    def publish(table: TrafficTable) -> None:
        if broken and len(table.arms) > 1:
            raise broken.pop()
        world.tables.append(table)

    with world.operator() as operator:
        operator._publish_unfenced = publish
        release = released(world, operator)
        broken.append(UnservableError("table 3 of tumours is refused: IntegrityError"))
        play(world, operator, 0, 8)
    assert world.workspace.ledger.releases.get(release.id).status == "rolled_back"
    assert TrafficTable.champion("tumours", "1.0.0") in world.tables


def test_traffic_follows_an_alias_that_a_person_moved(world: World) -> None:
    releases = world.workspace.ledger.releases
    releases.publish("tumours", TrafficTable.champion("tumours", "1.0.0").to_dict())
    with world.operator() as operator:
        operator.tick(day(0))
        assert world.tables == []
        point(world.workspace, world.challenger)
        operator.tick(day(0))
    assert world.tables == [TrafficTable.champion("tumours", "1.0.1")]


def test_traffic_stays_where_a_champion_cannot_be_served(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # The table named what no replica could load: one that was started later did not come up, and
    # no later look said anything.
    deployed(world)
    publish = world.tables.append

    def refuse(table: TrafficTable) -> None:
        publish(table)
        if table.versions == ("1.0.1",):
            raise UnservableError("table 2 of tumours is refused: IntegrityError")

    with world.operator() as operator:
        operator._publish_unfenced = refuse
        point(world.workspace, world.challenger)
        operator.tick(day(0))
        assert published(world) == TrafficTable.champion("tumours", "1.0.0")
        assert "1.0.1 is the champion and cannot be served, so 1.0.0 goes on" in caplog.text
        operator._publish_unfenced = publish
        operator.tick(day(0) + timedelta(minutes=14))
        assert published(world) == TrafficTable.champion("tumours", "1.0.0")
        operator.tick(day(0) + timedelta(minutes=15))
        assert published(world) == TrafficTable.champion("tumours", "1.0.1")


def refusing_the_challenger(world: World) -> Callable[[TrafficTable], None]:
    """Publishes as replicas do that can serve the champion alone."""

    def publish(table: TrafficTable) -> None:
        world.tables.append(table)
        if table.versions == ("1.0.1",):
            raise UnservableError("table 2 of tumours is refused: IntegrityError")

    return publish


def test_windows_are_judged_under_a_champion_that_cannot_be_served(world: World) -> None:
    # Each look ended there: nothing was judged, and two tables were written a look.
    deployed(world)

    with world.operator() as operator:
        operator._publish_unfenced = refusing_the_challenger(world)
        point(world.workspace, world.challenger)
        world.live(day(0), day(WINDOW_DAYS))
        for minute in range(10):
            operator.tick(day(WINDOW_DAYS) + timedelta(minutes=minute))
    assert [table.versions for table in world.tables[1:]] == [("1.0.1",), ("1.0.0",)]
    measured = world.workspace.ledger.observations.performance("tumours")
    assert {row.window_end for row in measured} == {day(WINDOW_DAYS)}


def test_another_champion_is_followed_at_once(world: World) -> None:
    deployed(world)

    with world.operator() as operator:
        operator._publish_unfenced = refusing_the_challenger(world)
        for version in (world.challenger, world.champion, world.challenger):
            point(world.workspace, version)
            operator.tick(day(0))
    assert [table.versions for table in world.tables[1:]] == [
        ("1.0.1",),
        ("1.0.0",),
        ("1.0.1",),
        ("1.0.0",),
    ]


def test_a_champion_moved_during_a_release_ends_it(world: World) -> None:
    ledger = world.workspace.ledger
    third = ledger.registry.register(
        "tumours",
        bundle=world.challenger.bundle,
        signature=ledger.text(world.challenger.signature_digest),
        run_id=world.challenger.run_id,
    )
    with world.operator() as operator:
        release = released(world, operator)
        point(world.workspace, third)
        operator.tick(day(1))
    assert world.tables[-1] == TrafficTable.champion("tumours", str(third.version))
    assert ledger.releases.get(release.id).status == "rolled_back"
    assert ledger.registry.alias("tumours", "champion") == third.version
    decision = ledger.decisions.list(model="tumours")[-1]
    assert decision.why.startswith("the champion is 1.0.2 now, and no longer 1.0.0")


def test_a_canary_is_held_against_the_champions_arm_alone(world: World) -> None:
    with world.operator() as operator:
        release = released(world, operator)
        seen(world, "1.0.0", arm="champion", failed=1, answered=99, on=day(0))
        seen(world, "1.0.0", arm="pinned", failed=50, answered=0, on=day(0))
        seen(world, "1.0.1", arm="canary", failed=2, answered=8, on=day(0))
        seen(world, "1.0.0", arm="canary", failed=40, answered=60, on=day(0))  # an earlier release
        evidence = operator._controller.evidence(release, since=day(0), now=day(1))
    assert (evidence.champion_failed, evidence.champion_requests) == (1, 99)
    assert (evidence.canary_failed, evidence.canary_requests) == (2, 8)


def test_traffic_goes_back_with_the_champion(world: World) -> None:
    ledger, workspace = world.workspace.ledger, world.workspace
    point(workspace, world.challenger)
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert ledger.releases.published("tumours") is None  # nothing serves it
    point(workspace, world.challenger)
    ledger.releases.publish("tumours", TrafficTable.champion("tumours", "1.0.1").to_dict())
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert published(world) == TrafficTable.champion("tumours", "1.0.0")


def test_a_release_goes_on_by_what_it_began_with(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # With fewer shares in the settings no operator could be started any more: IndexError.
    with world.operator() as operator:
        release = released(world, operator)
        world.workspace.ledger.releases.advance(
            release.id, release.state | {"step": 1}, "running", outcome="60%", who="a", why="on"
        )
    changed = [f"home={world.workspace.home}", "release.shares=[0.5]"]
    with Workspace.open(tmp_path / "tumours.yaml", overrides=changed) as world.workspace:
        with world.operator() as operator:
            assert operator.tick(day(1)) == ()
        assert [arm.share for arm in world.tables[-1].arms] == [0.4, 0.6]
        assert (
            "release 1 of tumours 1.0.1 goes on by what it began with (shares [0.3, 0.6], not "
            "[0.5]), and not by the settings of now"
        ) in caplog.text
