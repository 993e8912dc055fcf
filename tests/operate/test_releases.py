"""Releases that an operator carries on, and people who step in between."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from raymlops.errors import ConflictError, LedgerError, ReleaseError, UnservableError
from raymlops.ledger import Release, tables
from raymlops.operate import Operator, Workspace, releasing, rollback
from raymlops.release import ReleaseController
from raymlops.release.canary import Evidence
from raymlops.serve import TrafficTable
from tests.operate.world import (
    World,
    away,
    champion,
    day,
    deployed,
    killed,
    play,
    point,
    published,
    released,
    seen,
    third_version,
)


def test_a_release_is_not_begun_after_a_person_chose_the_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseController, "start", killed)
        with pytest.raises(KeyboardInterrupt), world.operator() as operator:
            play(world, operator, 0, 8)
    point(world.workspace, world.champion)
    with world.operator() as operator:
        assert operator.tick(day(8)) == ()
    assert world.workspace.ledger.releases.running("tumours") is None


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


def test_traffic_follows_an_alias_that_a_person_moved(world: World) -> None:
    releases = world.workspace.ledger.releases
    releases.publish("tumours", TrafficTable.champion("tumours", "1.0.0").to_dict())
    with world.operator() as operator:
        operator.tick(day(0))
        assert world.tables == []
        point(world.workspace, world.challenger)
        operator.tick(day(0))
    assert world.tables == [TrafficTable.champion("tumours", "1.0.1")]


def test_traffic_stays_where_a_champion_cannot_be_served(world: World) -> None:
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
        for _ in range(2):
            with pytest.raises(UnservableError):
                operator.tick(day(0))
            assert published(world) == TrafficTable.champion("tumours", "1.0.0")
        operator._publish_unfenced = publish
        operator.tick(day(0))
        assert published(world) == TrafficTable.champion("tumours", "1.0.1")


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


def test_a_promotion_that_was_cut_off_is_ended_not_judged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = world.workspace.ledger
    with world.operator() as operator:
        release = released(world, operator)
        point(world.workspace, world.challenger)  # as far as it came
    with world.operator() as operator:
        seen(world, "1.0.1", arm="canary", failed=20, answered=0, on=day(0))
        operator.tick(day(1))
    assert ledger.releases.get(release.id).status == "promoted"
    assert ledger.registry.alias("tumours", "champion") == world.challenger.version
    assert world.tables[-1] == TrafficTable.champion("tumours", "1.0.1")


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


def test_a_person_ends_a_release_and_traffic_goes_back(world: World) -> None:
    ledger = world.workspace.ledger
    with world.operator() as operator:
        release = released(world, operator)
        ledger.releases.publish("tumours", world.tables[-1].to_dict())
        assert len(world.tables[-1].arms) == 2
        ended = rollback(world.workspace, "tumours", who="ann", why="it is slow")
        assert isinstance(ended, Release)
        assert (ended.id, ended.status) == (release.id, "rolled_back")
        # It said so, and nothing but an operator's next tick took the canary's requests away.
        assert published(world) == TrafficTable.champion("tumours", "1.0.0")
    decision = ledger.decisions.list(model="tumours")[-1]
    assert (decision.outcome, decision.who, decision.why) == (
        "1.0.1 rolled back", "ann", "it is slow",
    )  # fmt: skip
    with pytest.raises(ConflictError, match=r"release 1 of tumours 1\.0\.1 is rolled back already"):
        ledger.releases.advance(
            release.id, release.state, "running", outcome="canary 50%", who="bob", why="late"
        )


def test_rolling_back_again_goes_further_back_and_never_to_what_was_rolled_back(
    world: World,
) -> None:
    # A second `rollback`, by another person or since the first seemed to fail, gave the traffic
    # back to the version that was just found bad.
    workspace = world.workspace
    third = third_version(world)
    for version in (world.challenger, third):
        point(workspace, version)
    for bad, expected in (("1.0.2", "1.0.1"), ("1.0.1", "1.0.0")):
        rollback(workspace, f"tumours@{bad}", who="ann", why="it is slow")
        assert champion(world) == expected
    with pytest.raises(ReleaseError, match=r"tumours 1\.0\.0 has no champion before it"):
        rollback(workspace, "tumours@1.0.0", who="ann", why="it is slow")
    point(workspace, third)
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert champion(world) == "1.0.0"


@pytest.mark.parametrize("by", ["a person", "a guard"])
def test_a_second_rollback_leaves_the_healthy_champion(
    world: World, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first had ended the canary; the second, by whoever had seen the same alert, gave the
    # traffic of a healthy champion to the one before it.
    workspace = world.workspace
    point(workspace, world.challenger)
    third = third_version(world)
    with world.operator() as operator:
        operator._controller.start(third, now=day(0), who="ann", why="by hand")
        if by == "a person":
            rollback(workspace, "tumours", who="ann", why="it is slow")
        else:
            seen(world, "1.0.2", arm="canary", failed=20, answered=0, on=day(0))
            operator.tick(day(1))
    for _ in range(2):
        with pytest.raises(
            ReleaseError,
            match=r"tumours 1\.0\.2 was rolled back .* `raymlops rollback tumours@1\.0\.1",
        ):
            rollback(workspace, "tumours", who="bob", why="it is slow")
    with pytest.raises(ReleaseError, match=r"nothing to roll back: tumours 1\.0\.2 is neither"):
        rollback(workspace, "tumours@1.0.2", who="bob", why="it is slow")
    assert champion(world) == "1.0.1"
    # Whoever means the champion says so, or asks when nobody can be in doubt any more.
    with monkeypatch.context() as patch:
        patch.setattr(releasing, "_DOUBT", timedelta(0))
        rollback(workspace, "tumours", who="bob", why="it is slow")
    assert champion(world) == "1.0.0"


def test_a_rollback_takes_back_what_was_promoted_since_another(world: World) -> None:
    workspace = world.workspace
    for version in (world.challenger, third_version(world)):
        point(workspace, version)
        rollback(workspace, "tumours", who="ann", why="it is slow")
        assert champion(world) == "1.0.0"


def test_a_canary_is_rolled_back_by_name(world: World) -> None:
    with world.operator() as operator:
        release = released(world, operator)
        ended = rollback(world.workspace, "tumours@1.0.1", who="ann", why="it is slow")
    assert isinstance(ended, Release)
    assert (ended.id, ended.status, champion(world)) == (release.id, "rolled_back", "1.0.0")


@pytest.mark.parametrize("named", ["tumours", "tumours@1.0.1"])
def test_a_canary_that_a_person_promoted_is_rolled_back_for_good(world: World, named: str) -> None:
    # The release ended, and the version that was to answer no more got all the traffic.
    workspace = world.workspace
    with world.operator() as operator:
        released(world, operator)
        workspace.ledger.releases.publish("tumours", world.tables[-1].to_dict())
        point(workspace, world.challenger)
        ended = rollback(workspace, named, who="ann", why="it is slow")
        assert isinstance(ended, Release)
        assert (ended.status, champion(world)) == ("rolled_back", "1.0.0")
        assert published(world) == TrafficTable.champion("tumours", "1.0.0")
        operator.tick(day(1))
    assert (champion(world), published(world)) == (
        "1.0.0",
        TrafficTable.champion("tumours", "1.0.0"),
    )
    with pytest.raises(ReleaseError, match=r"tumours 1\.0\.1 was rolled back at"):
        rollback(workspace, "tumours", who="bob", why="it is slow")


def test_a_release_that_is_ended_while_somebody_promotes_is_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, registry = world.workspace, type(world.workspace.ledger.registry)
    with world.operator() as operator:
        released(world, operator)
    before = registry.alias

    def look(*about: Any) -> Any:
        found = before(*about)
        monkeypatch.undo()
        point(workspace, world.challenger)
        return found

    running = workspace.ledger.releases.running("tumours")
    assert running is not None
    monkeypatch.setattr(registry, "alias", look)
    with pytest.raises(ConflictError, match=r"champion is 1\.0\.1 by now"):
        releasing._end_release(workspace, running, who="ann", why="it is slow")
    assert workspace.ledger.releases.running("tumours") == running


def test_of_two_who_roll_back_at_once_one_is_told_of_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, look = world.workspace, releasing._champion_before
    for version in (world.challenger, third_version(world)):
        point(workspace, version)

    def look_and_wait(*about: Any) -> object:
        found = look(*about)
        with monkeypatch.context() as patch:
            patch.setattr(releasing, "_champion_before", look)
            rollback(workspace, "tumours", who="bob", why="it is slow")
        return found

    monkeypatch.setattr(releasing, "_champion_before", look_and_wait)
    with pytest.raises(ConflictError, match=r"champion is 1\.0\.1 by now, .*, and was 1\.0\.2"):
        rollback(workspace, "tumours", who="ann", why="it is slow")
    assert champion(world) == "1.0.1"


@pytest.mark.parametrize("running", [True, False])
def test_a_way_back_that_is_cut_off_has_not_begun(
    world: World, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The alias had moved, or the release ended, and the traffic had not: asked again, `rollback`
    # took the champion before that one.
    workspace, ledger = world.workspace, world.workspace.ledger
    if running:
        with world.operator() as operator:
            released(world, operator)
        ledger.releases.publish("tumours", world.tables[-1].to_dict())
    else:
        point(workspace, world.challenger)
        ledger.releases.publish("tumours", TrafficTable.champion("tumours", "1.0.1").to_dict())
    before, decided = published(world), ledger.decisions.list()
    with monkeypatch.context() as patch:
        patch.setattr(tables, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            rollback(workspace, "tumours", who="ann", why="it is slow")
    assert (published(world), ledger.decisions.list()) == (before, decided)
    rollback(workspace, "tumours", who="ann", why="it is slow")
    assert published(world) == TrafficTable.champion("tumours", "1.0.0")
    assert champion(world) == "1.0.0"


def test_a_release_that_a_person_ends_while_it_is_judged_promotes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The champion was moved first, and only then it was seen that the release had ended.
    look = ReleaseController.evidence

    def evidence(self: ReleaseController, *about: Any, **when: Any) -> Evidence:
        found = look(self, *about, **when)
        rollback(world.workspace, "tumours", who="ann", why="it is slow")
        return replace(found, canary_rows=100, champion_rows=100, low=-0.1, high=0.1)

    with world.operator() as operator:
        release = released(world, operator)
        state = release.state | {"step": 1}
        world.workspace.ledger.releases.advance(
            release.id, state, "running", outcome="canary 60%", who="test", why="on"
        )
        monkeypatch.setattr(ReleaseController, "evidence", evidence)
        with pytest.raises(ConflictError, match="is rolled back already"):
            operator.tick(day(4))
    assert champion(world) == "1.0.0"


def test_a_champion_that_a_person_chose_while_a_release_was_judged_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, third = ReleaseController.evidence, third_version(world)

    def evidence(self: ReleaseController, *about: Any, **when: Any) -> Evidence:
        found = look(self, *about, **when)
        point(world.workspace, third)
        return replace(found, canary_rows=100, champion_rows=100, low=-0.1, high=0.1)

    with world.operator() as operator:
        release = released(world, operator)
        state = release.state | {"step": 1}
        world.workspace.ledger.releases.advance(
            release.id, state, "running", outcome="canary 60%", who="test", why="on"
        )
        with monkeypatch.context() as patch:
            patch.setattr(ReleaseController, "evidence", evidence)
            with pytest.raises(ConflictError, match=r"champion is 1\.0\.2 by now"):
                operator.tick(day(4))
        operator.tick(day(4))
    assert champion(world) == "1.0.2"
    assert world.workspace.ledger.releases.get(release.id).status == "rolled_back"


def test_a_step_that_could_not_be_published_is_by_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The canary got no traffic until it was rolled back, `max_days` later, for want of rows.
    deployed(world)
    with world.operator() as operator:
        with monkeypatch.context() as patch:
            patch.setattr(operator._controller, "_publish", away)
            with pytest.raises(LedgerError):
                released(world, operator)
        assert operator.tick(day(1)) == ()
        assert [(arm.version, arm.share) for arm in published(world).arms] == [
            ("1.0.0", 0.7), ("1.0.1", 0.3),
        ]  # fmt: skip
        assert len(world.tables) == 2
        operator.tick(day(1))
        assert len(world.tables) == 2


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


def test_what_is_published_stands_on_what_was_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # While it waited for a board that stood still, a person rolled back: that stands.
    deployed(world)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("raymlops.serve.publish", lambda _, **about: asked.append(about))
    monkeypatch.setattr("raymlops.serve.wait_applied", lambda *_, **__: ())
    publish = releasing.publisher(world.workspace)
    publish(TrafficTable.champion("tumours", "1.0.1"))
    world.workspace.ledger.releases.withdraw("tumours")
    publish(TrafficTable.champion("tumours", "1.0.1"))
    found = TrafficTable.champion("tumours", "1.0.0").to_dict()
    assert [about["seen"] for about in asked] == [found, {}]
