"""Which replica answers: policies over plain values, and the router that plugs them into Serve."""

from raymlops.serve.routing.base import ReplicaLoad, RoutingPolicy
from raymlops.serve.routing.consistent_hash import ConsistentHash
from raymlops.serve.routing.least_connections import LeastConnections
from raymlops.serve.routing.power_of_two import PowerOfTwo
from raymlops.serve.routing.registry import POLICIES, RoutingName, policy_named
from raymlops.serve.routing.round_robin import RoundRobin, WeightedRoundRobin

__all__ = [
    "POLICIES",
    "ConsistentHash",
    "LeastConnections",
    "PowerOfTwo",
    "ReplicaLoad",
    "RoundRobin",
    "RoutingName",
    "RoutingPolicy",
    "WeightedRoundRobin",
    "policy_named",
]
