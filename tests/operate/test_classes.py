"""The loop around a model of three classes, which is trained, gated and released like any other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data import add_dataset
from raymlops.errors import ConfigError, ExpectationError
from raymlops.models import Artifact, Bundle, Postprocessing
from raymlops.operate import Workspace, promote, register_model
from tests import irises
from tests.operate.world import START, World, play, succession

CONFIG = """
model: irises
data:
  dataset: irises
  target: target
  event_time: seen_at
  classes: [setosa, versicolor, virginica]
  features:
    - {name: sepal_length, kind: number}
    - {name: sepal_width, kind: number}
    - {name: petal_length, kind: number}
    - {name: petal_width, kind: number}
retrain: {on: [performance], cooldown_days: 13}
gate: {holdout_days: 7, min_rows: 50}
release: {shares: [0.3, 0.6], min_rows: 40, min_days: 3, max_days: 10}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "irises.yaml").write_text(CONFIG)
    config, home = tmp_path / "irises.yaml", tmp_path / "home"
    with Workspace.open(config, overrides=[f"home={home}"]) as workspace:
        yield workspace


def six_weeks() -> pa.Table:
    """Irises, one a half hour, in an order that has all kinds in each day."""
    times = [START + timedelta(hours=number // 2) for number in range(2 * 24 * 42)]
    order = np.random.default_rng(0).integers(0, 75, len(times))
    rows = irises.rows(label="target").take(pa.array(order))
    return rows.append_column("seen_at", pa.array(times, pa.timestamp("us", tz="UTC")))


def world_of(workspace: Workspace) -> World:
    """The champion calls each kind by another's name."""

    def register(classes: tuple[str, ...], model: Artifact) -> Bundle:
        postprocessing = Postprocessing(label="target", reads="probability", classes=classes)
        return register_model(
            workspace, "irises", model, irises.rows(label="target"), postprocessing=postprocessing
        )

    turned = ("versicolor", "virginica", "setosa")
    champion = register(turned, irises.saved())
    challenger = register(irises.SPECIES, irises.saved())
    promote(workspace, champion, who="test", why="first")
    return World(
        workspace=workspace,
        table=six_weeks(),
        champion=champion,
        challenger=challenger,
        model="irises",
    )


def test_a_bad_week_ends_in_a_new_champion(workspace: Workspace) -> None:
    world = world_of(workspace)
    assert str(world.challenger.version) == "2.0.0"  # its classes are in another order
    with world.operator() as operator:
        decided = play(world, operator, 0, 21)
    assert decided == succession("2.0.0")
    gate = workspace.ledger.decisions.list(model="irises", kind="gate")[-1]
    assert gate.evidence["challenger"]["roc_auc"] > 0.9 > gate.evidence["champion"]["roc_auc"]


def test_rows_of_no_declared_class_are_no_version(workspace: Workspace) -> None:
    table = six_weeks()
    add_dataset(workspace.ledger, workspace.store, table, workspace.schema)
    odd = table.set_column(
        4, "target", pa.array(["Setosa", *table["target"].to_pylist()[1:]], pa.string())
    )
    with pytest.raises(ExpectationError, match=r"setosa, versicolor or virginica.*Setosa"):
        add_dataset(workspace.ledger, workspace.store, odd, workspace.schema)


def test_settings_that_do_not_go_with_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "irises.yaml"
    for old, new, message in (
        ("model: irises", "model: irises\ntrain: {threshold: 0.3}", "the likeliest is said"),
        ("setosa, versicolor, virginica", "no, yes", "not False: YAML takes no, off or false for "),
        ("target: target", "target: probability", "the label is called 'probability'"),
        ("versicolor, virginica", "setosa", "class 'setosa' is given twice"),
        ("name: sepal_width", "name: score confidence", "a feature is called 'score confidence'"),
    ):
        path.write_text(CONFIG.replace(old, new))
        with pytest.raises(ConfigError, match=message):
            Workspace.open(path, overrides=[f"home={tmp_path / 'home'}"])
