"""The routing policies there are, by the names that settings use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from raymlops.serve.routing.base import RoutingPolicy
from raymlops.serve.routing.consistent_hash import ConsistentHash
from raymlops.serve.routing.least_connections import LeastConnections
from raymlops.serve.routing.power_of_two import PowerOfTwo
from raymlops.serve.routing.round_robin import RoundRobin, WeightedRoundRobin

RoutingName = Literal[
    "round_robin", "weighted_round_robin", "least_connections", "power_of_two", "consistent_hash"
]

POLICIES: Mapping[RoutingName, Callable[[], RoutingPolicy]] = {
    "round_robin": RoundRobin,
    "weighted_round_robin": WeightedRoundRobin,
    "least_connections": LeastConnections,
    "power_of_two": PowerOfTwo,
    "consistent_hash": ConsistentHash,
}


def policy_named(name: str) -> RoutingPolicy:
    """A fresh policy; raises ValueError when there is none of that name."""
    for known, make in POLICIES.items():
        if known == name:
            return make()
    raise ValueError(f"there is no routing policy '{name}'; there are {', '.join(POLICIES)}")
