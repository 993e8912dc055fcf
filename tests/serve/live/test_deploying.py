"""A model is deployed again while it is asked."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from raymlops.errors import ClusterError
from raymlops.serve import standing
from raymlops.serve.deployment.autoscaling import Autoscaling
from tests.serve.conftest import MODEL
from tests.serve.live.service import ON_RAY, SETTINGS, Service
from tests.serve.load import eventually, load

pytestmark = ON_RAY


def test_no_request_fails_while_the_model_is_deployed_again(service: Service) -> None:
    before = service.deployment.url
    with load(before, service.world, num_clients=2) as outcomes:
        eventually(lambda: len(outcomes) > 20)
        service.deploy()
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 20)
    assert service.deployment.url == before
    assert set(outcomes) == {"1.0.0"}


def test_a_refused_update_leaves_what_ran_to_be_healed(service: Service, tmp_path: Path) -> None:
    """Serve kept the refused one as its target, and started nothing when a replica died later."""
    from ray import serve

    with pytest.raises(ClusterError, match=r"holds no keys[\s\S]*What ran before runs again"):
        service.deploy(replace(SETTINGS, keys_file=tmp_path / "missing"))
    (model,) = (
        each for name, each in serve.status().applications.items() if name.endswith(f"-{MODEL}")
    )
    assert model.status == "RUNNING"
    with service.client() as client:
        assert client.infer(MODEL, service.world.rows(0, 1)).version == "1.0.0"


def test_replicas_that_never_fit_are_refused_before_anything_starts(service: Service) -> None:
    """Serve waited for ever, and said nothing."""
    with pytest.raises(ClusterError, match=r"a replica needs 50 CPUs .*, the largest node has 4"):
        service.deploy(replace(SETTINGS, num_cpus=50.0))


@pytest.mark.endurance
def test_replicas_follow_what_is_in_work_and_no_request_fails(service: Service) -> None:
    def num_replicas() -> int:
        return sum(not replica["leaving"] for replica in standing()[0]["replicas"])

    # Clients of one process keep a server busy for a part of the time only.
    scaling = Autoscaling(
        max_replicas=2, target_in_work=0.1, over_s=10.5, up_after_s=0.0, down_after_s=0.0
    )
    service.deploy(replace(SETTINGS, autoscaling=scaling))
    assert num_replicas() == 1
    with load(service.deployment.url, service.world, num_clients=4) as outcomes:
        eventually(lambda: num_replicas() == 2, timeout_s=60.0)
        seen = len(outcomes)
        eventually(lambda: len(outcomes) > seen + 50)
    eventually(lambda: num_replicas() == 1, timeout_s=60.0)
    assert set(outcomes) == {"1.0.0"}


@pytest.mark.endurance
def test_connections_are_dealt_by_the_routing_of_the_last_deployment(service: Service) -> None:
    address = service.deployment.url.removeprefix("http://")

    def shares() -> list[int]:
        """Of eight connections of one session, how many each replica has."""
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                connection = HTTPConnection(address)
                stack.callback(connection.close)
                connection.request("GET", f"/v2/models/{MODEL}", headers={"X-Session-Id": "anna"})
                assert connection.getresponse().read()
            return sorted(replica["connections"] for replica in standing()[0]["replicas"])

    settings = replace(SETTINGS, num_replicas=2, num_cpus=0)
    for routing, wanted in (("consistent_hash", [0, 8]), ("round_robin", [4, 4])):
        service.deploy(replace(settings, routing=routing))
        eventually(lambda: len(standing()[0]["replicas"]) == 2)
        assert shares() == wanted
        eventually(lambda: not any(each["connections"] for each in standing()[0]["replicas"]))
