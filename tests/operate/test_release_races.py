"""Acts of a release that are cut off, and people who act while another does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from raymlops.errors import ConflictError, LedgerError
from raymlops.ledger import tables
from raymlops.operate import releasing, rollback
from raymlops.release import ReleaseController
from raymlops.release.canary import Evidence
from raymlops.serve import TrafficTable
from tests.operate.world import (
    World,
    at_the_last_step,
    away,
    champion,
    day,
    deployed,
    killed,
    live_until_a_release_is_due,
    point,
    published,
    released,
    seen,
    third_version,
)


def test_a_release_is_not_begun_after_a_person_chose_the_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_until_a_release_is_due(world, monkeypatch)
    point(world.workspace, world.champion)
    with world.operator() as operator:
        assert operator.tick(day(8)) == ()
    assert world.workspace.ledger.releases.running("tumours") is None


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


def good_evidence(meanwhile: Callable[[], object]) -> Callable[..., Evidence]:
    """What a step is judged by, as somebody acts meanwhile."""
    look = ReleaseController.evidence

    def evidence(self: ReleaseController, *about: Any, **when: Any) -> Evidence:
        found = look(self, *about, **when)
        meanwhile()
        return replace(found, canary_rows=100, champion_rows=100, low=-0.1, high=0.1)

    return evidence


def test_a_release_that_a_person_ends_while_it_is_judged_promotes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The champion was moved first, and only then it was seen that the release had ended.
    evidence = good_evidence(
        lambda: rollback(world.workspace, "tumours", who="ann", why="it is slow")
    )
    with world.operator() as operator:
        at_the_last_step(world, operator)
        monkeypatch.setattr(ReleaseController, "evidence", evidence)
        with pytest.raises(ConflictError, match="is rolled back already"):
            operator.tick(day(4))
    assert champion(world) == "1.0.0"


def test_a_champion_that_a_person_chose_while_a_release_was_judged_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = third_version(world)
    evidence = good_evidence(lambda: point(world.workspace, third))
    with world.operator() as operator:
        release = at_the_last_step(world, operator)
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
