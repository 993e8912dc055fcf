"""How connections are dealt where `serve.routing` says so: by the policies that route requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raymlops.serve.routing import ReplicaLoad, RoutingName, policy_named


class Dealing:
    """Deals the connections to one model by `routing`; its connections are a replica's load."""

    def __init__(self, routing: RoutingName) -> None:
        self.routing = routing
        self._policy = policy_named(routing)

    @property
    def keeps_sessions(self) -> bool:
        """Whether it has to be told whose connection it deals."""
        return self._policy.keeps_sessions

    @property
    def evens_out(self) -> bool:
        """Whether every replica is meant to have as many connections as any other."""
        return not (self._policy.keeps_sessions or self._policy.is_weighted)

    def choose(self, replicas: Sequence[ReplicaLoad], session: str) -> str:
        """The replica that gets a connection; there is at least one to choose from."""
        if not self._policy.is_weighted:
            replicas = [replace(each, weight=1.0) for each in replicas]
        return self._policy.choose(replicas, session).name
