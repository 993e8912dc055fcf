"""The loop around a model that says numbers: a temperature, learned in winter, asked in summer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raymlops.errors import ConfigError, DataError, ModelError
from raymlops.ledger import ModelVersion
from raymlops.models import Artifact, Bundle, Postprocessing, format_named
from raymlops.models.onnx import export_unchecked
from raymlops.operate import Workspace, promote, register_model
from tests.operate.world import START, World, day, play, succession
from tests.weather import weather

FEATURES = ("dewp", "humid", "hour")
CONFIG = """
model: weather
data:
  dataset: weather
  target: target
  task: regression
  event_time: seen_at
  features:
    - {name: dewp, kind: number}
    - {name: humid, kind: number}
    - {name: hour, kind: number}
retrain: {on: [performance], cooldown_days: 13}
gate: {holdout_days: 7, min_rows: 50}
release: {shares: [0.3, 0.6], min_rows: 40, min_days: 3, max_days: 10}
"""
JANUARY, JULY = ("2013-01", "2013-02"), ("2013-07", "2013-08")
SAYS = Postprocessing(label="target", reads="number")


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "weather.yaml").write_text(CONFIG)
    config, home = tmp_path / "weather.yaml", tmp_path / "home"
    with Workspace.open(config, overrides=[f"home={home}"]) as workspace:
        yield workspace


def rows(months: tuple[str, str], num: int, *, seed: int) -> pa.Table:
    """So many observations of these months, without the time when they were made."""
    table = weather(months).select([*FEATURES, "temp"]).rename_columns([*FEATURES, "target"])
    return table.take(np.random.default_rng(seed).integers(0, table.num_rows, num))


def register(workspace: Workspace, table: pa.Table) -> ModelVersion:
    """A ridge regression on the first half of `table`, held to its second."""
    half = table.num_rows // 2
    matrix = np.stack([table[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    model = make_pipeline(StandardScaler(), Ridge()).fit(matrix[:half], table["target"][:half])
    artifact = format_named("onnx").save(model, matrix[:16])
    return register_model(workspace, "weather", artifact, table.slice(half), postprocessing=SAYS)


def world_of(workspace: Workspace) -> World:
    """A winter's week, then summer; two observations an hour."""
    champion = register(workspace, rows(JANUARY, 2000, seed=0))
    both = pa.concat_tables([rows(JANUARY, 2000, seed=1), rows(JULY, 2000, seed=2)])
    shuffled = both.take(np.random.default_rng(3).permutation(both.num_rows))
    challenger = register(workspace, shuffled)
    promote(workspace, champion, who="test", why="first")
    seen = pa.concat_tables([rows(JANUARY, 2 * 24 * 7, seed=4), rows(JULY, 2 * 24 * 28, seed=5)])
    times = [START + timedelta(hours=number // 2) for number in range(seen.num_rows)]
    return World(
        workspace=workspace,
        table=seen.append_column("seen_at", pa.array(times, pa.timestamp("us", tz="UTC"))),
        champion=champion,
        challenger=challenger,
        model="weather",
    )


def test_a_summer_that_a_winters_model_does_not_know_ends_in_a_new_champion(
    workspace: Workspace,
) -> None:
    world = world_of(workspace)
    with world.operator() as operator:
        decided = play(world, operator, 0, 28)
    assert decided == succession("1.0.1")
    ledger = workspace.ledger
    trained = Bundle.of_version(workspace.store, world.champion).profile.capped_loss
    trigger = ledger.decisions.list(model="weather", kind="trigger")[0]
    assert trigger.why.startswith("RMSE of 1.0.0 was ")
    assert f"at training it was {trained:.3f}" in trigger.why
    assert trigger.evidence["limit"] == pytest.approx(1.1 * trained)
    gate = ledger.decisions.list(model="weather", kind="gate")[0]
    assert gate.evidence["challenger"]["rmse"] < gate.evidence["champion"]["rmse"]
    both = (gate.evidence[each]["capped_rmse"] for each in ("challenger", "champion"))
    share = next(both) / next(both) - 1
    assert gate.evidence["difference"] == pytest.approx(share)
    release = ledger.decisions.list(model="weather", kind="release")[1]
    assert "guards hold at 30% of requests: RMSE -" in release.why


def test_the_windows_hold_what_scikit_learn_says(workspace: Workspace) -> None:
    world = world_of(workspace)
    with world.operator() as operator:
        assert play(world, operator, 0, 7) == []
    found = {
        row.metric: row.value
        for row in workspace.ledger.observations.performance("weather")
        if row.version == "1.0.0"
    }
    week = world.table.slice(0, 2 * 24 * 7)
    columns = {name: week[name].to_numpy() for name in FEATURES}
    said = Bundle.of_version(workspace.store, world.champion).predict(columns)["target"]
    assert found["rmse"] == pytest.approx(root_mean_squared_error(week["target"], said), rel=1e-5)
    mean = pc.mean(rows(JANUARY, 2000, seed=0)["target"].slice(1000)).as_py()
    constant = np.sqrt(np.mean((week["target"].to_numpy() - mean) ** 2))
    assert found["baseline_rmse"] == pytest.approx(constant, rel=1e-6)
    assert found["rmse_over_baseline"] == pytest.approx(found["rmse"] - constant, rel=1e-5)


def test_errors_that_grow_alarm_before_the_window_ends(workspace: Workspace) -> None:
    """Nothing but windows told of a model that says numbers."""
    world = world_of(workspace)
    world.live(day(0), day(7))
    monitor = world.monitor()
    assert monitor.watch("weather") == ()
    world.live(day(7), day(9))
    alarms = monitor.watch("weather")
    assert alarms[0].reference_rate == 0.1
    assert alarms[0].recent_rate > 0.15
    assert alarms[0].event_time < day(9)


class Guess(torch.nn.Module):
    """The dew point, and of what is damper than `limit` per cent something else."""

    def __init__(self, limit: float, odd: float) -> None:
        super().__init__()
        self.limit, self.odd = limit, odd

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        return torch.where(matrix[:, 1] > self.limit, self.odd, matrix[:, 0])


def test_rows_of_which_a_model_says_no_number_tell_nothing_of_its_error(
    workspace: Workspace,
) -> None:
    """Its RMSE was NaN, which is kept as nothing, and by which no window could be judged."""
    table = rows(JANUARY, 500, seed=0)
    sample = np.zeros((16, 3), dtype=np.float32)

    def registered(limit: float, odd: float) -> ModelVersion:
        data = export_unchecked(Guess(limit, odd), sample)
        model = Artifact(format="onnx", data=data)
        return register_model(workspace, "weather", model, table, postprocessing=SAYS)

    known = table.filter(pc.less_equal(table["humid"], 90.0))
    profile = Bundle.of_version(workspace.store, registered(90.0, np.nan)).profile
    assert profile.loss == pytest.approx(
        root_mean_squared_error(known["target"], known["dewp"]), rel=1e-6
    )
    assert profile.tolerance == pytest.approx(
        np.quantile(np.abs(known["target"].to_numpy() - known["dewp"].to_numpy()), 0.9), rel=1e-6
    )
    with pytest.raises(ModelError, match="of 500 rows the model says 0 numbers"):
        registered(0.0, np.nan)
    with pytest.raises(ModelError, match=r"500 numbers, \d+ of them infinite"):
        registered(90.0, np.inf)


def test_what_goes_not_with_numbers_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "weather.yaml"
    for old, new, message in (
        ("model: weather", "model: weather\ntrain: {threshold: 0.3}", "a number is said as it is"),
        ("on: [performance]", "on: [performance, expected]", "nothing is expected"),
        ("min_rows: 50", "min_rows: 50, min_gain: 5", "that is 500% lower than"),
        (
            "max_days: 10",
            "max_days: 10, max_loss_increase: -1",
            "release.max_loss_increase asks for an RMSE of numbers that is 100% lower",
        ),
        ("task: regression", "task: ranking", "data.task"),
        ("task: regression", "task: regression\n  classes: [a, b]", "a number is of no class"),
    ):
        path.write_text(CONFIG.replace(old, new))
        with pytest.raises(ConfigError, match=message):
            Workspace.open(path, overrides=[f"home={tmp_path / 'other'}"])
    table = rows(JANUARY, 100, seed=0)
    infinite = pa.array([np.inf, *table["target"].to_pylist()[1:]])
    with pytest.raises(DataError, match="column 'target' is infinite in 1 of 50 rows"):
        register(
            workspace,
            pa.concat_tables(
                [table.slice(50), table.set_column(3, "target", infinite).slice(0, 50)]
            ),
        )
