"""One address for the replicas of several nodes, of which one is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

from raymlops.models import Bundle
from raymlops.serve import Deployment, ServeSettings, deploy, standing, undeploy
from tests.serve.conftest import MODEL, World, make_world
from tests.serve.load import eventually, load

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that no replica fits on, as in cluster.yaml, and two nodes for one each."""
    memory = {"object_store_memory": 100_000_000}
    # A node that is killed is noticed after 4 s, not 15.
    health = {"health_check_period_ms": 1000, "health_check_failure_threshold": 4}
    # Its port is any that is free: where another Ray has 8265, this one would leave a socket open.
    dashboard = {"include_dashboard": False, "dashboard_port": None}
    head = {**memory, **dashboard, "num_cpus": 0, "_system_config": health}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **memory)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def world(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(bundles, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def deployment(cluster: Cluster, world: World) -> Iterator[Deployment]:
    from ray import serve

    yield deploy(
        MODEL,
        ledger_url=world.ledger_url,
        store_uri=world.store_uri,
        settings=ServeSettings(port=0, num_replicas=2),
    )
    serve.shutdown()


def replicas() -> list[int]:
    """How many stand behind each door that answers."""
    return sorted(
        sum(not replica["leaving"] for replica in door["replicas"]) for door in standing()
    )


def test_the_door_of_the_head_reaches_the_replicas_of_all_nodes(
    deployment: Deployment, world: World
) -> None:
    assert replicas() == [0, 1, 1]

    def connections() -> list[int]:
        doors = [door for door in standing() if door["replicas"]]
        return [replica["connections"] for door in doors for replica in door["replicas"]]

    with load(deployment.url, world, num_clients=4) as outcomes:
        eventually(lambda: connections() == [2, 2])
        (head,) = [door for door in standing() if not door["replicas"]]
        assert head["relays"] == 4
        eventually(lambda: len(outcomes) > 100)
    assert set(outcomes) == {"1.0.0"}


def test_serves_controller_may_be_killed(deployment: Deployment, world: World) -> None:
    with load(deployment.url, world, num_clients=4) as outcomes:
        eventually(lambda: len(outcomes) > 50)
        controller = ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        killed = ray.get(controller.get_pid.remote())
        ray.kill(controller, no_restart=False)
        eventually(lambda: ray.get(controller.get_pid.remote()) != killed, timeout_s=60.0)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 50)
    assert set(outcomes) == {"1.0.0"}


def test_a_node_that_is_lost_costs_a_retry(
    cluster: Cluster, deployment: Deployment, world: World
) -> None:
    with load(deployment.url, world, num_clients=4, retries=1) as outcomes:
        eventually(lambda: len(outcomes) > 50)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 200)
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        eventually(lambda: replicas() == [0, 1, 1], timeout_s=120.0)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 100)
    assert set(outcomes) == {"1.0.0"}


def test_a_model_that_is_undeployed_is_gone_everywhere(
    deployment: Deployment, world: World
) -> None:
    undeploy(MODEL)
    assert replicas() == [0, 0, 0]
