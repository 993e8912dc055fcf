"""Round robin: every replica in turn, or each in proportion to its weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from raymlops.serve.routing.base import ReplicaLoad, RoutingPolicy


class RoundRobin(RoutingPolicy):
    """Whoever has waited longest, so that a replica that joins or leaves upsets no turn."""

    def __init__(self) -> None:
        self._turns = count(1)
        self._last_turn: dict[str, int] = {}

    def choose(self, replicas: Sequence[ReplicaLoad], key: str) -> ReplicaLoad:
        self._last_turn = {each.name: self._last_turn.get(each.name, 0) for each in replicas}
        chosen = min(replicas, key=lambda each: self._last_turn[each.name])
        self._last_turn[chosen.name] = next(self._turns)
        return chosen


class WeightedRoundRobin(RoutingPolicy):
    """Smooth weighted round robin, as nginx has it: 5:1:1 gives a a b a c a a, never five in a row.

    Each turn everybody earns its weight, the richest is chosen, and pays what all have earned.
    """

    is_weighted = True

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def choose(self, replicas: Sequence[ReplicaLoad], key: str) -> ReplicaLoad:
        self._credit = {
            each.name: self._credit.get(each.name, 0.0) + each.weight for each in replicas
        }
        chosen = max(replicas, key=lambda each: self._credit[each.name])
        self._credit[chosen.name] -= sum(each.weight for each in replicas)
        return chosen
