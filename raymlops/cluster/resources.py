"""What the nodes of the connected Ray have."""

from __future__ import annotations

from typing import Any


def node_cpus() -> list[float]:
    """The CPUs of each node that is alive, used or not."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types it not
    return [node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]]
