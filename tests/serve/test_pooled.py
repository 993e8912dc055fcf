"""Three models that share a replica, which holds one of them, on a real Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from raymlops.cluster import Session
from raymlops.errors import ConfigError, NotFoundError
from raymlops.ledger import Ledger
from raymlops.models import PROBABILITY, Bundle
from raymlops.serve import (
    Client,
    ModelCachePolicy,
    ServeSettings,
    TrafficTable,
    deploy,
    deploy_pool,
    publish,
    standing,
    undeploy_pool,
    wait_applied,
)
from raymlops.storage import Store
from tests.serve.conftest import VERSIONS, World, read_columns, register
from tests.serve.load import eventually

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]

WARDS = ("ward-0", "ward-1", "ward-2")
SETTINGS = ServeSettings(port=0, num_cpus=0, pool=ModelCachePolicy(max_models=1))


@pytest.fixture(scope="module")
def world(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("wards")
    url, uri = f"sqlite:///{folder}/ledger.db", str(folder / "store")
    with Ledger(url) as ledger:
        for model in (*WARDS, "alone"):
            for bundle in bundles.values():
                register(ledger, Store(uri), model, bundle)
            first = ledger.registry.list(model)[0].version
            ledger.registry.move(model, "champion", first, who="test", why="first", evidence={})
    return World(url, uri, bundles, read_columns()[0])


@pytest.fixture(scope="module")
def url(own_ray_cluster: Session, world: World) -> Iterator[str]:
    """Where the wards answer."""
    from ray import serve

    yield _deploy(world, WARDS)
    serve.shutdown()


def _deploy(world: World, models: tuple[str, ...], settings: ServeSettings = SETTINGS) -> str:
    return deploy_pool(
        "wards",
        models,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        settings=settings,
    )


def _check(client: Client, world: World, model: str, version: str) -> None:
    answer = client.infer(model, world.rows(0, 20))
    wanted = world.bundles[version].predict(world.rows(0, 20))[PROBABILITY]
    assert answer.version == version
    np.testing.assert_allclose(answer.outputs[PROBABILITY], wanted, rtol=1e-6)


def test_all_answer_though_one_is_held(url: str, world: World) -> None:
    with Client(url) as client:
        for model in WARDS * 2:
            _check(client, world, model, VERSIONS[0])
    (door,) = standing()
    assert door["models"] == [*WARDS]
    (replica,) = door["replicas"]
    assert replica["models"] == [*WARDS]
    eventually(lambda: standing()[0]["replicas"][0]["requests"] == 6)
    told = standing()[0]["replicas"][0]
    assert (told["pool"], told["versions"], told["loads"]) == ("wards", ["ward-2@1.0.0"], 6)


def test_a_release_is_in_force_for_a_model_that_is_not_held(url: str, world: World) -> None:
    with Client(url) as client:
        _check(client, world, "ward-0", VERSIONS[0])
        generation = publish(
            TrafficTable.champion("ward-1", VERSIONS[2]), ledger_url=world.ledger_url
        )
        assert len(wait_applied("ward-1", generation, ledger_url=world.ledger_url)) == 1
        _check(client, world, "ward-1", VERSIONS[2])
        _check(client, world, "ward-0", VERSIONS[0])


def test_a_pool_that_is_killed_comes_back_with_all(url: str, world: World) -> None:
    eventually(lambda: "pid" in standing()[0]["replicas"][0])
    os.kill(standing()[0]["replicas"][0]["pid"], signal.SIGKILL)
    with Client(url, retries=1, timeout_s=60.0) as client:
        for model, version in zip(WARDS, (VERSIONS[0], VERSIONS[2], VERSIONS[0]), strict=True):
            _check(client, world, model, version)


def test_a_model_is_deployed_once(url: str, world: World) -> None:
    with pytest.raises(ConfigError, match="'ward-0' is in pool 'wards'"):
        deploy("ward-0", ledger_url=world.ledger_url, store_uri=world.store_uri, settings=SETTINGS)
    with pytest.raises(ConfigError, match="'ward-1' is deployed in pool 'wards'"):
        deploy_pool(
            "others",
            ["ward-1"],
            ledger_url=world.ledger_url,
            store_uri=world.store_uri,
            settings=SETTINGS,
        )
    deploy("alone", ledger_url=world.ledger_url, store_uri=world.store_uri, settings=SETTINGS)
    with pytest.raises(ConfigError, match="'alone' is deployed by itself"):
        _deploy(world, (*WARDS, "alone"))
    with Client(url) as client:
        for model in ("alone", "ward-0"):
            _check(client, world, model, VERSIONS[0])


def test_a_pool_is_deployed_again_without_one_and_undeployed(url: str, world: World) -> None:
    assert _deploy(world, WARDS[:2]) == url
    with Client(url, retries=0) as client:
        _check(client, world, "ward-0", VERSIONS[0])
        assert not client.ready("ward-2")
        undeploy_pool("wards")
        assert not client.ready("ward-0")
    with pytest.raises(NotFoundError, match="no pool 'wards'"):
        undeploy_pool("wards")
