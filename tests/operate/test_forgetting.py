"""How much of what was predicted may be forgotten, and that a window is judged by all of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from raymlops.errors import ConfigError
from raymlops.ledger import JoinPolicy
from raymlops.ledger.provenance import code_at
from raymlops.monitor import WindowPolicy
from raymlops.operate import Workspace, forget_checkpoints, forget_predictions
from raymlops.operate.forgetting import Horizon, horizon_of
from tests.operate.world import World, day

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
MONTHS = WindowPolicy(unit="month")
JOINS = JoinPolicy(max_age_days=30)  # until 2026-10-19, and so a window from 2026-10-01 on


def horizon(
    days: float, judged: datetime | None = None, released: datetime | None = None
) -> Horizon:
    keep = timedelta(days=days)
    return horizon_of(keep, NOW, MONTHS, JOINS, judged=judged, released=released)


def test_what_was_asked_for_is_forgotten_where_nothing_needs_it() -> None:
    judged = datetime(2026, 11, 1, tzinfo=UTC)
    assert horizon(90, judged) == Horizon(before=NOW - timedelta(days=90))
    assert horizon(49) == Horizon(before=datetime(2026, 9, 30, 12, tzinfo=UTC))


def test_windows_that_labels_may_come_for_are_kept_whole() -> None:
    told = (
        r"^predictions are needed for 49 days, not 48: labels may come for 30 days "
        r"\(monitor.joins.max_age_days\)"
    )
    with pytest.raises(ConfigError, match=told):
        horizon(48)
    sliding = WindowPolicy(unit="month", span=3)
    with pytest.raises(ConfigError, match="needed for 110 days, not 60"):
        horizon_of(timedelta(days=60), NOW, sliding, JOINS, judged=None, released=None)


def test_windows_that_nobody_has_judged_and_a_release_that_runs_are_kept() -> None:
    judged = datetime(2026, 8, 1, tzinfo=UTC)
    because = "windows that end after 2026-08-01 are not judged yet"
    assert horizon(60, judged) == Horizon(before=judged, because=because)
    released = datetime(2026, 7, 9, tzinfo=UTC)
    because = "a release has run since"
    assert horizon(60, judged, released) == Horizon(before=released, because=because)


def test_a_dry_run_changes_nothing_and_the_other_leaves_a_decision(world: World) -> None:
    model, ledger = world.workspace.model, world.workspace.ledger
    world.live(day(0), day(3))
    before = ledger.observations.count_predictions(model)
    now = day(400)

    def forget(*, dry_run: bool) -> int:
        found = forget_predictions(
            world.workspace, keep_days=398.5, now=now, who="ann", why="room", dry_run=dry_run
        )
        assert (found.decision is None) == (dry_run or not found.num_predictions)
        return found.num_predictions

    number = forget(dry_run=True)
    assert 0 < number < before
    assert ledger.observations.count_predictions(model) == before
    assert forget(dry_run=False) == number
    assert ledger.observations.count_predictions(model) == before - number
    assert forget(dry_run=False) == 0
    decision = ledger.decisions.list(model=model)[-1]
    assert (decision.kind, decision.who, decision.why) == ("forget predictions", "ann", "room")
    assert decision.outcome == f"{number} predictions before 2024-01-02"
    assert decision.evidence["num_predictions"] == number


def test_checkpoints_are_forgotten_by_a_decision(workspace: Workspace, tmp_path: Path) -> None:
    folder, ledger = workspace.home / "training" / "here", workspace.ledger
    (folder / "step-00000040").mkdir(parents=True)
    (folder / "step-00000040" / "shard").write_bytes(bytes(2**20))
    run = ledger.runs.start(
        kind="train",
        model="digits",
        params={},
        code=code_at(tmp_path),
        config=json.dumps({"folder": str(folder)}),
        environment="{}",
        inputs={},
    )
    ledger.runs.fail(run.id, "killed")

    def forget(*, days: float, dry_run: bool) -> list[int]:
        now = datetime.now(UTC) + timedelta(days=10)
        found = forget_checkpoints(
            workspace, keep_days=days, now=now, who="ann", why="room", dry_run=dry_run
        )
        return [each.size_bytes for each in found]

    assert forget(days=11, dry_run=False) == []
    assert forget(days=9, dry_run=True) == [2**20]
    assert ledger.decisions.list() == []
    assert forget(days=9, dry_run=False) == [2**20]
    assert list(folder.iterdir()) == []
    assert forget(days=9, dry_run=False) == []
    (decision,) = ledger.decisions.list(model="digits")
    assert decision.outcome == f"checkpoints of run {run.id}"
    assert decision.evidence == {
        "runs": [run.id], "folder": str(folder), "size_bytes": 2**20,
    }  # fmt: skip
