"""A routing policy as the request router of a Ray Serve deployment.

Serve imports this module in every process that routes: proxies, and whoever holds a handle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from raymlops.serve.routing.base import ReplicaLoad
from raymlops.serve.routing.registry import RoutingName, policy_named

WEIGHT = "weight"
"""What a replica says in `record_routing_stats` about the share it can bear."""


class PolicyRouter(RequestRouter):
    """Tries the replicas in the order a policy gives, one after the other.

    A session is what the header `x-session-id`, or the handle's option `session_id`, says; each
    request without one is a session of its own.
    """

    def initialize_state(self, **kwargs: str) -> None:
        """Called by Serve with what `router_config` gave."""
        self._policy = policy_named(kwargs["policy"])

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if not candidate_replicas:
            return []
        key = ""
        if pending_request is not None:
            # Without this Serve asks again at once, and for ever, while all replicas are full.
            pending_request.routing_context.should_backoff = True
            metadata = pending_request.metadata
            key = metadata.session_id or metadata.internal_request_id
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        order = self._policy.order(self._loads(candidate_replicas), key)
        return [[replicas[load.name]] for load in order]

    def _loads(self, replicas: Sequence[RunningReplica]) -> list[ReplicaLoad]:
        return [
            ReplicaLoad(
                name=replica.replica_id.unique_id,
                in_flight=self.replica_queue_len_cache.get(replica.replica_id) or 0,
                weight=_weight(replica.routing_stats) if self._policy.is_weighted else 1.0,
            )
            for replica in replicas
        ]


def router_config(policy: RoutingName) -> RequestRouterConfig:
    """What makes a Serve deployment route by `policy`."""
    path: Any = f"{PolicyRouter.__module__}.{PolicyRouter.__qualname__}"
    return RequestRouterConfig(request_router_class=path, request_router_kwargs={"policy": policy})


def _weight(stats: Mapping[str, Any]) -> float:
    """A replica that has not measured itself yet counts as one."""
    weight = float(stats.get(WEIGHT, 1.0))
    return weight if weight > 0 else 1.0
