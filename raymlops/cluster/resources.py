"""What the nodes of the connected Ray have, and how Ray counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PARTS = 10_000
"""Of which Ray's resources are whole numbers."""


def places(available: float, each: float) -> int:
    """How many that take `each` of a resource, more than nothing, have room in `available`."""
    return round(available * _PARTS) // round(each * _PARTS)


def node_resources() -> list[Mapping[str, float]]:
    """What each node that is alive has by Ray's names, used or not."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types it not
    return [node["Resources"] for node in nodes if node["Alive"]]


def node_cpus() -> list[float]:
    """The CPUs of each node that is alive, used or not."""
    return [node.get("CPU", 0.0) for node in node_resources()]


def free_cpus() -> float:
    """The CPUs of all nodes together that nobody has at the moment."""
    import ray

    untyped: Any = ray
    return float(untyped.available_resources().get("CPU", 0.0))
