"""Three models that share a replica, which holds one of them, on a real Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops import operate
from raymlops.cluster import Session
from raymlops.errors import ConfigError, NotFoundError
from raymlops.ledger import Ledger, Version
from raymlops.models import PROBABILITY, Bundle
from raymlops.operate import Workspace
from raymlops.serve import (
    Client,
    ModelCachePolicy,
    ServeSettings,
    TrafficTable,
    deploy,
    deploy_pool,
    model_handle,
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
    pytest.mark.endurance,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]

WARDS = dict(zip(("ward-0", "ward-1", "ward-2"), VERSIONS, strict=True))
"""Their champions."""

OTHERS = ("bed-0", "bed-1", "alone")
SETTINGS = ServeSettings(port=0, num_cpus=0, pool=ModelCachePolicy(max_models=1))


@pytest.fixture(scope="module")
def world(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("wards")
    url, uri = f"sqlite:///{folder}/ledger.db", str(folder / "store")
    champions = {**WARDS, **dict.fromkeys(OTHERS, VERSIONS[0])}
    with Ledger(url) as ledger:
        for model, champion in champions.items():
            for bundle in bundles.values():
                register(ledger, Store(uri), model, bundle)
            version = Version.parse(champion)
            ledger.registry.move(model, "champion", version, who="test", why="best", evidence={})
    return World(url, uri, bundles, read_columns()[0])


@pytest.fixture(scope="module")
def url(own_ray_cluster: Session, world: World) -> Iterator[str]:
    """Where the wards answer."""
    from ray import serve

    yield _deploy(world, "wards", tuple(WARDS))
    serve.shutdown()


def _deploy(world: World, name: str, models: tuple[str, ...]) -> str:
    return deploy_pool(
        name,
        models,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        settings=SETTINGS,
    )


def _check(client: Client, world: World, model: str, version: str) -> None:
    answer = client.infer(model, world.rows(0, 20))
    wanted = world.bundles[version].predict(world.rows(0, 20))[PROBABILITY]
    assert answer.version == version
    np.testing.assert_allclose(answer.outputs[PROBABILITY], wanted, rtol=1e-6)


def _wards() -> dict[str, Any]:
    """What the replica of the wards tells of itself."""
    eventually(lambda: any(each.get("pool") == "wards" for each in standing()[0]["replicas"]))
    (told,) = [each for each in standing()[0]["replicas"] if each.get("pool") == "wards"]
    return told


def test_all_answer_though_one_is_held(url: str, world: World) -> None:
    before = _wards()
    with Client(url) as client:
        for model, version in (*WARDS.items(), *WARDS.items()):
            _check(client, world, model, version)
    eventually(lambda: _wards()["requests"] == before["requests"] + 6)
    told = _wards()
    assert told["models"] == [*WARDS]
    assert told["versions"] == [f"ward-2@{WARDS['ward-2']}"]
    assert told["loads"] >= before["loads"] + 5


def test_a_release_is_in_force_for_a_model_that_is_not_held(url: str, world: World) -> None:
    with Client(url) as client:
        for version in (VERSIONS[0], WARDS["ward-1"]):
            _check(client, world, "ward-0", WARDS["ward-0"])
            table = TrafficTable.champion("ward-1", version)
            generation = publish(table, ledger_url=world.ledger_url)
            assert len(wait_applied("ward-1", generation, ledger_url=world.ledger_url)) == 1
            _check(client, world, "ward-1", version)


def test_handles_name_the_model(url: str, world: World) -> None:
    for model, version in WARDS.items():
        answer = model_handle(model).infer.remote(world.rows(0, 20)).result(timeout_s=30.0)
        wanted = world.bundles[version].predict(world.rows(0, 20))[PROBABILITY]
        assert answer.version == version
        np.testing.assert_allclose(answer.outputs[PROBABILITY], wanted, rtol=1e-6)


def test_a_pool_that_is_killed_comes_back_with_all(url: str, world: World) -> None:
    os.kill(_wards()["pid"], signal.SIGKILL)
    with Client(url, retries=1, timeout_s=60.0) as client:
        for model, version in WARDS.items():
            _check(client, world, model, version)


def test_a_model_is_deployed_once(url: str, world: World) -> None:
    with pytest.raises(ConfigError, match="'ward-0' is in pool 'wards'"):
        deploy("ward-0", ledger_url=world.ledger_url, store_uri=world.store_uri, settings=SETTINGS)
    with pytest.raises(ConfigError, match="'ward-1' is deployed in pool 'wards'"):
        _deploy(world, "others", ("ward-1",))
    deploy("alone", ledger_url=world.ledger_url, store_uri=world.store_uri, settings=SETTINGS)
    with pytest.raises(ConfigError, match="'alone' is deployed by itself"):
        _deploy(world, "wards", (*WARDS, "alone"))
    with Client(url) as client:
        _check(client, world, "alone", VERSIONS[0])
        _check(client, world, "ward-0", WARDS["ward-0"])


def test_a_deployment_that_is_refused_moves_no_traffic(url: str, world: World) -> None:
    with Workspace.open(overrides=[f"home={Path(world.store_uri).parent}"]) as workspace:
        before = workspace.ledger.releases.published("ward-0")
        assert before is not None
        with pytest.raises(ConfigError, match="'ward-0' is in pool 'wards'"):
            operate.deploy(workspace, f"ward-0@{VERSIONS[2]}")
        with pytest.raises(ConfigError, match="'ward-0' is deployed in pool 'wards'"):
            operate.deploy_pool(workspace, "others", [f"ward-0@{VERSIONS[2]}"])
        assert workspace.ledger.releases.published("ward-0") == before


def test_a_pool_is_deployed_again_without_one_and_undeployed(url: str, world: World) -> None:
    assert _deploy(world, "beds", ("bed-0", "bed-1")) == url
    with Client(url, retries=0) as client:
        _check(client, world, "bed-1", VERSIONS[0])
        assert _deploy(world, "beds", ("bed-0",)) == url
        _check(client, world, "bed-0", VERSIONS[0])
        assert not client.ready("bed-1")
        undeploy_pool("beds")
        assert not client.ready("bed-0")
        _check(client, world, "ward-0", WARDS["ward-0"])
    with pytest.raises(NotFoundError, match="no pool 'beds'"):
        undeploy_pool("beds")
