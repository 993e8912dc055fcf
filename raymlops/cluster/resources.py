"""What the nodes of the connected Ray have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def node_resources() -> list[Mapping[str, float]]:
    """What each node that is alive has by Ray's names, used or not."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types it not
    return [node["Resources"] for node in nodes if node["Alive"]]


def node_cpus() -> list[float]:
    """The CPUs of each node that is alive, used or not."""
    return [node.get("CPU", 0.0) for node in node_resources()]
