"""A model of tumours whose champion has learned the opposite of the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from raymlops.data import TableSchema
from raymlops.ledger import ModelVersion
from raymlops.models import Bundle
from raymlops.operate import Workspace
from tests.operate.bundles import bundle_of
from tests.operate.world import START, World, point, start_run

CONFIG = """
model: tumours
data:
  dataset: tumours
  target: target
  event_time: seen_at
  features:
    - {name: mean_radius, kind: number}
    - {name: mean_texture, kind: number}
    - {name: worst_concavity, kind: number, max_missing: 0.2}
    - {name: size, kind: category}
retrain: {on: [performance], cooldown_days: 13}
gate: {holdout_days: 7, min_rows: 50}
release: {shares: [0.3, 0.6], min_rows: 40, min_days: 3, max_days: 10}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "tumours.yaml").write_text(CONFIG)
    config, home = tmp_path / "tumours.yaml", tmp_path / "home"
    with Workspace.open(config, overrides=[f"home={home}"]) as workspace:
        yield workspace


@pytest.fixture(scope="package")
def bundles(tumours: pa.Table, tumour_schema: TableSchema) -> dict[bool, Bundle]:
    """A model of the truth, and one that has learned the opposite (True: inverted)."""
    return {
        inverted: bundle_of(tumours, tumour_schema, inverted=inverted) for inverted in (True, False)
    }


@pytest.fixture
def world(workspace: Workspace, tumours: pa.Table, bundles: dict[bool, Bundle]) -> World:
    return make_world(workspace, tumours, bundles)


def make_world(workspace: Workspace, tumours: pa.Table, bundles: Mapping[bool, Bundle]) -> World:
    """Six weeks of tumours, one a half hour; the champion has learned the opposite of the truth."""
    times = [START + timedelta(hours=number // 2) for number in range(2 * 24 * 42)]
    repeated = pa.concat_tables([tumours] * 4).slice(0, len(times)).drop(["seen_at"])
    table = repeated.append_column("seen_at", pa.array(times, pa.timestamp("us", tz="UTC")))
    run = start_run(workspace.ledger)

    def register(*, inverted: bool) -> ModelVersion:
        bundle = bundles[inverted]
        return workspace.ledger.registry.register(
            "tumours",
            bundle=bundle.save(workspace.store),
            signature=json.dumps(bundle.signature.to_dict()),
            run_id=run.id,
        )

    champion, challenger = register(inverted=True), register(inverted=False)
    point(workspace, champion)
    return World(workspace=workspace, table=table, champion=champion, challenger=challenger)
