"""Least connections: the replica that works on the fewest requests."""

from __future__ import annotations

from collections.abc import Sequence

from raymlops.serve.routing.base import ReplicaLoad, RoutingPolicy
from raymlops.serve.routing.round_robin import RoundRobin


class LeastConnections(RoutingPolicy):
    """The fewest requests in flight for its weight; equals take turns.

    Best where one router sees all traffic. Several routers with old counts all run to the same
    idle replica: there `PowerOfTwo` is the better choice.
    """

    def __init__(self) -> None:
        self._turns = RoundRobin()

    def choose(self, replicas: Sequence[ReplicaLoad], key: str) -> ReplicaLoad:
        least = min(each.pressure for each in replicas)
        return self._turns.choose([each for each in replicas if each.pressure == least], key)
