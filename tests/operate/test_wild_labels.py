"""Labels of 1e9 among temperatures: a broken sensor, or a unit that somebody mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raymlops.ledger import Ledger, Performance
from raymlops.monitor import Window, WindowReport
from raymlops.monitor.alerts.signals import signals_of
from raymlops.operate import Workspace
from raymlops.operate.wild_labels import said_of_labels
from raymlops.serve import TrafficTable
from tests.operate import test_numbers as numbers
from tests.operate.test_numbers import JANUARY, JULY, register, rows, world_of
from tests.operate.world import START, World, day, play, released, succession

WILD = 1e9


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "weather.yaml").write_text(numbers.CONFIG)
    config, home = tmp_path / "weather.yaml", tmp_path / "home"
    with Workspace.open(config, overrides=[f"home={home}"]) as workspace:
        yield workspace


def spoilt(table: pa.Table, at: list[int]) -> pa.Table:
    """With a wild label in these rows."""
    labels = table["target"].to_numpy().copy()
    labels[at] = WILD
    index = table.column_names.index("target")
    return table.set_column(index, "target", pa.array(labels))


@dataclass
class Spoilt(World):
    """The first label of each week that an arm is told is wild."""

    arm: str = "champion"
    weeks: set[int] = field(default_factory=set)

    def _answer(self, ledger: Ledger, hour: datetime, columns: object, labels: object) -> None:
        table = self.tables[-1] if self.tables else TrafficTable.champion(self.model, "1.0.0")
        week = (hour - day(0)).days // 7
        if table.arm_of(hour.isoformat()).name == self.arm and week not in self.weeks:
            self.weeks.add(week)
            labels = np.concatenate([[WILD], np.asarray(labels)[1:]])
        super()._answer(ledger, hour, columns, labels)


def test_a_wild_label_a_week_leaves_nothing_undecided(workspace: Workspace) -> None:
    """One gave the RMSE an interval from nearly nothing to 1e8: no trigger, no gate, no release."""
    world = world_of(workspace)
    world.table = spoilt(world.table, [2 * 24 * 7 * week + 50 for week in range(5)])
    with world.operator() as operator:
        assert play(world, operator, 0, 28) == succession("1.0.1")


@pytest.mark.parametrize("arm", ["champion", "canary"])
@pytest.mark.parametrize("is_worse", [True, False])
def test_one_wild_label_of_an_arm_decides_no_release(
    workspace: Workspace, arm: str, is_worse: bool
) -> None:
    """In the champion's arm it let a worse canary pass, in the canary's it threw out a good one."""
    world = world_of(workspace)
    world.challenger = register(workspace, rows(JULY if is_worse else JANUARY, 2000, seed=6))
    seen = rows(JANUARY, 10 * 24 * 8, seed=8)
    times = [START + timedelta(hours=number // 10) for number in range(len(seen))]
    world.table = seen.append_column("seen_at", pa.array(times, pa.timestamp("us", tz="UTC")))
    world = Spoilt(**vars(world), arm=arm)
    with world.operator() as operator:
        release = released(world, operator)
        play(world, operator, 0, 8)
    status = workspace.ledger.releases.get(release.id).status
    assert status == ("rolled_back" if is_worse else "promoted")


def test_labels_that_may_be_broken_are_told_of_until_they_no_longer_are(
    workspace: Workspace,
) -> None:
    """A sensor that tells another unit for a week."""
    world = world_of(workspace)
    seen = rows(JANUARY, 2 * 24 * 21, seed=8)
    broken = list(range(2 * 24 * 7, 2 * 24 * 14, 20))
    world.table = spoilt(seen, broken).append_column(
        "seen_at", world.table["seen_at"].slice(0, len(seen))
    )
    with world.operator() as operator:
        play(world, operator, 0, 21)
    told = workspace.ledger.decisions.list(model="weather", kind="labels")
    assert [each.outcome for each in told] == ["wild", "tame"]
    assert told[0].why.startswith(
        "17 of 336 labels in 2024-01-08 to 2024-01-15 are farther than 9."
    )
    assert told[0].why.endswith(" from what 1.0.0 said; at training at most 0.1% were")
    assert told[0].evidence["wild_labels"] == pytest.approx(17 / 336)
    signals = [signal for each in told for signal in signals_of(each)]
    assert [(each.name, each.firing) for each in signals] == [("labels", True), ("labels", False)]


@pytest.mark.parametrize(
    ("num", "num_rows", "low", "outcome"),
    [
        (2, 300, 0.004, None),  # of which each may be an accident
        (3, 500, 0.002, None),
        (5, 500, 0.004, "wild"),
        (1, 500, 0.0, "tame"),
    ],
)
def test_a_few_wild_labels_are_no_broken_ones(
    num: int, num_rows: int, low: float, outcome: str | None
) -> None:
    def estimate(metric: str, value: float, low: float) -> Performance:
        return Performance(
            model="weather",
            version="1.0.0",
            arm="champion",
            window_start=day(0),
            window_end=day(7),
            metric=metric,
            num_rows=num_rows,
            value=value,
            low=low,
            high=1.0,
        )

    found = (estimate("wild_labels", num / num_rows, low), estimate("error_cap", 9.1, 9.1))
    window = Window(day(0), day(7))
    report = WindowReport(model="weather", window=window, drift=(), performance=found)
    said = said_of_labels(report, "1.0.0")
    assert (said and said.outcome) == outcome
    older = WindowReport(model="weather", window=window, drift=(), performance=())
    assert said_of_labels(older, "1.0.0") is None
