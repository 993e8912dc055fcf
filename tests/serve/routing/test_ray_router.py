"""Policies as the request routers of real Serve deployments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raymlops.cluster import Session

pytestmark = [
    pytest.mark.cluster,
    # Ray Serve's own, at its import.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]


@pytest.fixture(scope="module")
def run(own_ray_cluster: Session) -> Iterator[Callable[[str, int], Any]]:
    """Deploys replicas that answer who they are, routed by a policy; returns the handle."""
    from ray import serve

    from raymlops.serve.routing.ray_router import router_config

    def run(policy: Any, num_replicas: int) -> Any:
        deployment = serve.deployment(
            name="who",
            num_replicas=num_replicas,
            ray_actor_options={"num_cpus": 0},
            request_router_config=router_config(policy),
        )
        application = deployment(replica_class()).bind()
        return serve.run(application, name=policy, route_prefix=f"/{policy}")

    yield run
    serve.shutdown()


def replica_class() -> type:
    """A class that replicas get by value: they cannot import this module."""

    class Who:
        def __call__(self) -> str:
            from ray import serve

            return str(serve.get_replica_context().replica_id.unique_id)

    return Who


def test_serve_takes_replicas_in_turn(run: Callable[[str, int], Any]) -> None:
    who = run("round_robin", 3)
    answers = [who.remote().result(timeout_s=30) for _ in range(12)]
    assert sorted(Counter(answers).values()) == [4, 4, 4]
    assert len(set(answers[:3])) == 3


def test_serve_keeps_a_session_with_its_replica(run: Callable[[str, int], Any]) -> None:
    who = run("consistent_hash", 3)

    def ask(session: int) -> str:
        handle = who.options(session_id=f"session-{session}")
        return str(handle.remote().result(timeout_s=30))

    first = [ask(session) for session in range(20)]
    assert [ask(session) for session in range(20)] == first
    assert len(set(first)) == 3
