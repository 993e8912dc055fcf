"""An operator that is killed before or after whatever it tells the ledger and the replicas, from a
trigger to a champion; the next one goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raymlops.ledger.database import Database
from raymlops.models import Bundle
from raymlops.operate import Workspace
from tests.endurance import endurance
from tests.operate.conftest import CONFIG, make_world
from tests.operate.world import World, champion, day, deployed, published

DAYS = 22


class KilledError(BaseException):
    """Nothing that the operator would catch."""


@dataclass
class Death:
    """Comes at that moment of those at which the operator could be killed, counted from 1."""

    at: int | None = None
    num_passed: int = 0
    is_near: bool = False

    def pass_by(self) -> None:
        # The heartbeat of a run is written when it is time, by a thread of its own.
        if self.is_near and threading.current_thread() is threading.main_thread():
            self.num_passed += 1
            if self.num_passed == self.at:
                raise KilledError

    @contextlib.contextmanager
    def near(self) -> Iterator[None]:
        """Traffic and labels, which come in between, are others' affair."""
        self.is_near = True
        try:
            yield
        finally:
            self.is_near = False


def life(world: World, death: Death) -> dict[str, Any]:
    """What becomes of a bad champion in three weeks, of which a later operator lives the rest."""
    deployed(world)
    begin, publish = Database._begin, world.tables.append

    @contextlib.contextmanager
    def begin_mortally(self: Database) -> Iterator[Any]:
        death.pass_by()
        with begin(self) as connection:
            yield connection
        death.pass_by()

    def publish_mortally(table: Any) -> None:
        death.pass_by()
        publish(table)
        death.pass_by()

    num_served, is_over = 0, False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_begin", begin_mortally)
        patch.setattr(world.tables, "append", publish_mortally)
        while not is_over:
            with contextlib.suppress(KilledError), world.operator() as operator:
                for number in range(max(0, num_served - 1), DAYS):
                    if number == num_served:
                        world.live(day(number), day(number + 1))
                        num_served += 1
                    operator.wait_for_training(30)
                    with death.near():
                        operator.tick(day(number + 1))
                is_over = True
    return outcome(world)


def outcome(world: World) -> dict[str, Any]:
    ledger, table = world.workspace.ledger, published(world)
    decisions = ledger.decisions.list(model="tumours")
    return {
        # That a training is the second attempt, as the first was cut off, is told and no matter.
        "decided": [f"{d.kind}: {d.outcome}" for d in decisions if d.kind != "training"],
        "champion": champion(world),
        "arms": [(arm.name, arm.version, arm.share) for arm in table.arms],
        "releases": [each.status for each in ledger.releases.list("tumours")],
        "problems": [
            problem
            for problem in ledger.verify(world.workspace.store).problems
            if not problem.startswith("dataset")  # there is none, see `start_run`
        ],
    }


def fresh(folder: Path, tumours: pa.Table, bundles: Mapping[bool, Bundle]) -> World:
    folder.mkdir()
    (folder / "tumours.yaml").write_text(CONFIG)
    workspace = Workspace.open(folder / "tumours.yaml", overrides=[f"home={folder / 'home'}"])
    return make_world(workspace, tumours, bundles)


@pytest.mark.parametrize("step", [16, endurance(1)])
def test_an_operator_that_is_killed_is_replaced_by_one_that_goes_on(
    step: int, tmp_path: Path, tumours: pa.Table, bundles: Mapping[bool, Bundle]
) -> None:
    undisturbed = Death()
    world = fresh(tmp_path / "undisturbed", tumours, bundles)
    with world.workspace:
        expected = life(world, undisturbed)
    assert (expected["champion"], expected["problems"]) == ("1.0.1", [])
    assert undisturbed.num_passed > 40
    for at in range(1, undisturbed.num_passed + 1, step):
        world = fresh(tmp_path / f"killed-{at}", tumours, bundles)
        with world.workspace:
            assert life(world, Death(at)) == expected, at
