from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymlops.cluster import Session
from raymlops.errors import CoordinationError
from raymlops.ledger import Run
from raymlops.operate import Workspace, mirror, start_mirror
from raymlops.operate.mirror import MIRROR_NAME
from tests.coordination.processes import until
from tests.runs import start_training
from tests.servers.mlflow import mlflow_client
from tests.servers.zookeeper import zookeeper

MODULE = importlib.import_module("raymlops.operate.mirror")  # the package shows the function


def start(workspace: Workspace) -> Run:
    return start_training(workspace.ledger, "tumours")


@pytest.fixture
def workspace(tmp_path: Path, mlflow_url: str) -> Iterator[Workspace]:
    overrides = (
        f"home={tmp_path}",
        f"ledger.mlflow.url={mlflow_url}",
        "ledger.mlflow.follow.every_s=0.1",
    )
    with Workspace.open(overrides=overrides) as workspace:
        yield workspace


def test_two_mirrors_do_not_copy_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_LOCK_TIMEOUT_S", 0.1)
    with (
        workspace.coordinator.hold("mirror", timeout_s=1.0),
        pytest.raises(CoordinationError, match="'mirror' is held by process"),
    ):
        mirror(workspace)


def test_a_workspace_that_was_closed_takes_its_locks_again(tmp_path: Path) -> None:
    # The mirror's actor closes it after an error and goes on with it: with ZooKeeper every later
    # attempt failed, since the coordinator was closed.
    with zookeeper() as ensemble:
        url = f"coordination.url=zookeeper://{ensemble.hosts}/here"
        workspace = Workspace.open(overrides=[f"home={tmp_path / 'home'}", url])
        for _ in range(2):
            with workspace, workspace.coordinator.hold("mirror", timeout_s=10.0) as lease:
                assert lease.token > 0
                start(workspace)
        with workspace:
            assert len(workspace.ledger.runs.list()) == 2


def test_without_mlflow_installed_ray_is_joined_all_the_same(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with caplog.at_level(logging.WARNING):
        start_mirror(workspace)
    assert caplog.messages == ["the ledger is not mirrored: `pip install raymlops[mlflow]`"]


@pytest.mark.cluster
def test_connecting_starts_an_actor_that_mirrors_and_survives_its_death(
    workspace: Workspace, own_ray_cluster: Session
) -> None:
    import ray

    assert workspace.settings.ledger.mlflow.url is not None
    client = mlflow_client(workspace.settings.ledger.mlflow.url.reveal())

    def is_mirrored(run: Run, loss: float) -> bool:
        experiment = client.get_experiment_by_name("tumours")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        losses = {each.data.tags["raymlops.id"]: each.data.metrics.get("loss") for each in found}
        return losses.get(run.id) == loss

    with workspace.connect():
        actor = ray.get_actor(MIRROR_NAME, namespace=own_ray_cluster.namespace)
        try:
            run = start(workspace)
            workspace.ledger.runs.log(run.id, {"loss": 0.5})
            until(lambda: is_mirrored(run, 0.5))
            ray.kill(actor, no_restart=False)
            workspace.ledger.runs.log(run.id, {"loss": 0.25}, step=1)
            until(lambda: is_mirrored(run, 0.25))
        finally:
            ray.kill(actor)
