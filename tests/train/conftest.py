"""One Ray of two nodes for all tests of training that need one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch
from ray.cluster_utils import Cluster


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Models of a few thousand numbers are slower in several, by far where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Any]:
    node = {"num_cpus": 4, "object_store_memory": 200_000_000}
    # A node that is killed is noticed after 4 s, not 15.
    health = {"health_check_period_ms": 1000, "health_check_failure_threshold": 4}
    # Its port is any that is free: where another Ray has 8265, this one would leave a socket open.
    dashboard = {"include_dashboard": False, "dashboard_port": None}
    head = {**node, **dashboard, "_system_config": health}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture
def two_nodes(_cluster: Any) -> Iterator[Any]:
    """The two nodes, joined by this process for one test: the next may join another Ray."""
    ray.init(address=_cluster.address, log_to_driver=False)
    try:
        yield _cluster
    finally:
        ray.shutdown()
