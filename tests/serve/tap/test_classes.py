"""A model of three classes, from its replica to the figures of a window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, log_loss

from raymlops.cluster import Session, spawn
from raymlops.data import CONFIDENCE, SCORE, take
from raymlops.ledger import Ledger
from raymlops.monitor import DriftMonitor, DriftPolicy, WindowPolicy, WindowReport
from raymlops.operate import Workspace, add_labels
from raymlops.serve import Client, Deployment, ServeSettings, deploy
from tests import irises
from tests.serve.conftest import MODEL, World, make_world
from tests.serve.load import eventually

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]

MONITOR = "classes-monitor"
DAY = datetime(2013, 7, 1, 12, tzinfo=UTC)
NUM_ROWS = 75


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world({"1.0.0": irises.bundle()}, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def deployment(ray_cluster: Session, world: World) -> Iterator[Deployment]:
    from ray import serve

    policies = WindowPolicy(unit="day"), DriftPolicy(min_rows=NUM_ROWS)
    spawn(DriftMonitor, MONITOR, world.ledger_url, world.store_uri, *policies, max_concurrency=8)
    yield deploy(
        MODEL,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        settings=ServeSettings(port=0),
        tap=MONITOR,
    )
    serve.shutdown()


def test_what_is_asked_answered_and_came_true_is_measured(
    world: World, deployment: Deployment, tmp_path: Path
) -> None:
    with Client(deployment.url) as client:
        for row in range(NUM_ROWS):
            asked = take(irises.columns(), slice(row, row + 1))
            client.infer(MODEL, asked, request_id=f"iris-{row}", event_time=DAY)
    came = [irises.SPECIES[each] for each in irises.TARGET[irises.UNSEEN]]
    outcomes = tmp_path / "outcomes.csv"
    lines = [f"iris-{row},{kind}" for row, kind in enumerate(came)]
    outcomes.write_text("\n".join(["request_id,label", *lines]))
    overrides = [
        f"home={tmp_path}", f"ledger.url={world.ledger_url}", f"storage.uri={world.store_uri}"
    ]  # fmt: skip
    with Workspace.open(overrides=overrides) as workspace, Ledger(world.ledger_url) as ledger:
        eventually(lambda: ledger.observations.count_predictions(MODEL) == NUM_ROWS)
        told = add_labels(workspace, MODEL, outcomes, now=DAY)
    assert told.fates == {"joined": NUM_ROWS}

    (report,) = _advanced(DAY + timedelta(days=1))
    found = {row.metric: row for row in report.performance if row.version == "1.0.0"}
    said = irises.probabilities()
    assert found["log_loss"].num_rows == NUM_ROWS
    assert found["log_loss"].value == pytest.approx(log_loss(came, said), rel=1e-4)
    by_name = [irises.SPECIES[each] for each in said.argmax(axis=1)]
    assert found["accuracy"].value == pytest.approx(accuracy_score(came, by_name))
    # These are the rows of the reference; a row alone may be rounded otherwise than in a batch.
    effects = {row.feature: row.effect for row in report.drift}
    assert effects.pop(CONFIDENCE) < 0.05
    assert effects == dict.fromkeys((*irises.NAMES, SCORE), 0.0)


def _advanced(watermark: datetime) -> tuple[WindowReport, ...]:
    import ray

    monitor = ray.get_actor(MONITOR)
    found: tuple[WindowReport, ...] = ray.get(monitor.advance.remote(MODEL, watermark))
    return found
