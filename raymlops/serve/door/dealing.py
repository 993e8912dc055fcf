"""How connections are dealt where `serve.routing` says so: by the policies that route requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from raymlops.serve.routing import ReplicaLoad, RoutingName, RoutingPolicy, policy_named


class Dealing:
    """Deals the connections to one model by `routing`; its connections are a replica's load.

    A policy of its own chooses the node: doors of other nodes send connections that are dealt here
    alone, and would upset its turns.
    """

    def __init__(self, routing: RoutingName) -> None:
        self.routing = routing
        self._policy = policy_named(routing)
        self._policy_of_nodes = policy_named(routing)

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
        return _chosen(self._policy, replicas, session)

    def choose_node(
        self,
        here: Sequence[ReplicaLoad],
        far: Mapping[str, Sequence[ReplicaLoad]],
        session: str,
    ) -> str | None:
        """The node among `far` that has the replica which gets a connection; None if one `here`
        does. There is at least one to choose from.

        The door there chooses again, among its own: a session's replica is the same.
        """
        node_of = {each.name: node for node, replicas in far.items() for each in replicas}
        replicas = [*here, *(each for replicas in far.values() for each in replicas)]
        return node_of.get(_chosen(self._policy_of_nodes, replicas, session))


def _chosen(policy: RoutingPolicy, replicas: Sequence[ReplicaLoad], session: str) -> str:
    if not policy.is_weighted:
        replicas = [replace(each, weight=1.0) for each in replicas]
    return policy.choose(replicas, session).name
