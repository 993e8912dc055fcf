"""The contract of a routing policy: which replica answers a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaLoad:
    """A replica that can be chosen, the requests it works on, and the share it is meant to have."""

    name: str
    in_flight: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"replica {self.name} has weight {self.weight}, more than 0 is needed")

    @property
    def pressure(self) -> float:
        """Requests in flight for what it can bear."""
        return self.in_flight / self.weight


class RoutingPolicy(ABC):
    """Chooses among replicas, whose set may be another at each call.

    A policy may remember what it chose, and knows neither clock nor network. One object is for
    one router: two that share the traffic each balance their own half.
    """

    is_weighted: ClassVar[bool] = False
    """Whether weights are what replicas measure of themselves. That moves from minute to minute,
    and would move sessions with it."""

    keeps_sessions: ClassVar[bool] = False
    """Whether it goes by the key."""

    @abstractmethod
    def choose(self, replicas: Sequence[ReplicaLoad], key: str) -> ReplicaLoad:
        """The replica for a request of session `key`; there is at least one to choose from."""

    def order(self, replicas: Sequence[ReplicaLoad], key: str) -> list[ReplicaLoad]:
        """All replicas: the chosen one, and then those to try when it does not take the request.

        Raises:
            ValueError: there is no replica.
        """
        if not replicas:
            raise ValueError("there is no replica to choose")
        chosen = self.choose(replicas, key)
        others = [replica for replica in replicas if replica.name != chosen.name]
        return [chosen, *sorted(others, key=lambda replica: replica.pressure)]
