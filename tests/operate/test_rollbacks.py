"""A person takes a release, or a champion, back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from raymlops.errors import ConflictError, ReleaseError
from raymlops.ledger import Release
from raymlops.operate import releasing, rollback
from raymlops.serve import TrafficTable
from tests.operate.world import (
    World,
    champion,
    day,
    point,
    published,
    released,
    seen,
    third_version,
)


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
