"""Replicas on Ray Serve: what places them, asks after their health and tells them of their door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raymlops.cluster.address import is_this_machine
from raymlops.cluster.link import ActorLink
from raymlops.cluster.resources import free_cpus, node_cpus
from raymlops.serve.client.messages import Answer, Columns
from raymlops.serve.deployment.autoscaling import WorkMeter
from raymlops.serve.deployment.proxy import FRONT, run_application
from raymlops.serve.deployment.room import (
    Claim,
    cpus_needed_first,
    require_not_taken,
    surge_percent,
)
from raymlops.serve.door.actor import door_path, local_door
from raymlops.serve.process.garbage import spare_what_is_loaded
from raymlops.serve.replica.pool import Pool, PoolSpec
from raymlops.serve.replica.replica import Replica
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.settings import ServeSettings
from raymlops.serve.tap.outbox import Sink
from raymlops.serve.traffic.publishing import RemoteBoard
from raymlops.serve.web.asgi import App
from raymlops.serve.witnesses.metrics import Outlet
from raymlops.telemetry import Snapshot

_logger = logging.getLogger(__name__)

_TAP_TIMEOUT_S = 30.0
_OUTLET_TIMEOUT_S = 2.0
_SHUTDOWN_S = 10.0  # for the monitor to be told of the last answers
_ORIGIN_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the replicas of an application are made from.

    Args:
        taps: by model, the actor that is told of every answer.
        exporter: the actor that is given the metrics of each replica.
    """

    spec: ReplicaSpec | PoolSpec
    settings: ServeSettings
    taps: Mapping[str, str]
    exporter: str | None


def run_replicas(origin: Origin, *, application: str, route: str | None) -> None:
    """Runs them as that application of Ray Serve, whose proxy finds it at `route`; returns when
    every replica answers.

    Raises:
        ClusterError: the replicas do not start; those that ran before go on, and are healed.
    """
    before = _running_origin(application)
    wanted, running = _wanted(origin.settings), _running(application, before)
    free, nodes = free_cpus(), node_cpus()
    surge = surge_percent(wanted, running, node_cpus=nodes, free_cpus=free)
    if free < (needed := cpus_needed_first(wanted, running, surge)):
        require_not_taken(needed, running, _others(application), total_cpus=sum(nodes))
        _logger.warning(
            "new replicas need %g CPUs (serve.num_cpus), %g are free: deploying waits for the "
            "others",
            needed,
            free,
        )
    run_application(
        _application(origin, surge),
        name=application,
        route_prefix=route,
        before=None if before is None else _application(before, surge),
    )


def check_room(application: str, settings: ServeSettings) -> None:
    """Returns quietly when the cluster has the CPUs for that; changes nothing.

    Raises:
        ClusterError: it never has.
    """
    wanted, running = _wanted(settings), _running(application, _running_origin(application))
    free, nodes = free_cpus(), node_cpus()
    surge = surge_percent(wanted, running, node_cpus=nodes, free_cpus=free)
    if free < (needed := cpus_needed_first(wanted, running, surge)):
        require_not_taken(needed, running, _others(application), total_cpus=sum(nodes))


def _wanted(settings: ServeSettings) -> Claim:
    scaling = settings.autoscaling
    return Claim(
        num_replicas=settings.num_replicas if scaling is None else scaling.min_replicas,
        num_cpus=settings.num_cpus,
    )


def _others(application: str) -> dict[str, Claim]:
    """What the other applications keep, as far as their replicas say."""
    from ray import serve

    others = {name for name in serve.status().applications if name not in (application, FRONT)}
    origins = {name: _running_origin(name) for name in others}
    return {name: _wanted(each.settings) for name, each in origins.items() if each is not None}


def _running(application: str, origin: Origin | None) -> Claim | None:
    num_replicas = _num_running(application)
    if origin is None or num_replicas == 0:
        return None
    return Claim(num_replicas=num_replicas, num_cpus=origin.settings.num_cpus)


def _running_origin(application: str) -> Origin | None:
    """What the replicas of that application say they were made from; None where none answers."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    if _num_running(application) == 0:
        return None
    try:
        handle = serve.get_app_handle(application)
        found: Origin = handle.made_from.remote().result(timeout_s=_ORIGIN_TIMEOUT_S)
    except (RayError, RayServeException, TimeoutError) as error:
        _logger.warning("no replica of %s says what it was made from: %r", application, error)
        return None
    return found


def _num_running(application: str) -> int:
    from ray import serve

    running = serve.status().applications.get(application)
    return sum(
        count
        for deployment in (() if running is None else running.deployments.values())
        for state, count in deployment.replica_states.items()
        if state == "RUNNING"
    )


def _application(origin: Origin, surge: int) -> Any:
    from ray import serve

    spec, settings = origin.spec, origin.settings
    chosen: dict[str, Any] = {"num_replicas": settings.num_replicas}
    if settings.autoscaling is not None:
        chosen = {"autoscaling_config": settings.autoscaling.for_serve()}
    if settings.routing is not None:
        from raymlops.serve.routing.ray_router import router_config

        chosen["request_router_config"] = router_config(settings.routing)
    deployment = serve.deployment(
        name=spec.model if isinstance(spec, ReplicaSpec) else spec.name,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.num_cpus},
        max_surge_percent=surge,  # of new replicas that answer before old ones stop
        max_constructor_retry_count=3,
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + _SHUTDOWN_S,
        **chosen,
    )
    return deployment(serve.ingress()(_Server)).bind(origin)


class _Server:
    """The Serve deployment of a model or pool; `serve.ingress` gives it the application it
    builds."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._work = WorkMeter()
        self._replica = _made(origin)

    async def __serve_build_asgi_app__(self) -> App:
        await self._replica.load()
        spare_what_is_loaded()
        settings = self._origin.settings
        door = await asyncio.to_thread(local_door, settings.http, settings.tls)
        if is_this_machine(settings.host):  # else clients come through the doors of others
            await door.listen.remote(settings.host, settings.port)
        self._replica.stand_behind(await asyncio.to_thread(door_path), settings.routing)
        return self._replica.app

    def made_from(self) -> Origin:
        """Asked before an update, which may have to be taken back."""
        return self._origin

    async def infer(self, columns: Columns, **about: Any) -> Answer:
        """For `model_handle`, which names the model where there are several."""
        if isinstance(self._replica, Pool):
            from ray import serve

            about["model"] = serve.get_multiplexed_model_id()
        return await self._replica.infer(columns, **about)

    def record_routing_stats(self) -> dict[str, float]:
        """Asked by Serve every ten seconds; weighted round robin reads it."""
        return {"weight": self._replica.rows_per_s}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve every ten seconds where `autoscaling` is set."""
        return self._work.read(self._replica.spent_s, self._replica.num_in_work)

    def check_health(self) -> None:
        self._replica.check_health()


def _made(origin: Origin) -> Replica | Pool:
    spec = origin.spec
    outlet = None if origin.exporter is None else _remote_outlet(origin.exporter)

    def sink_of(model: str) -> Sink | None:
        return _remote_sink(origin.taps[model]) if model in origin.taps else None

    if isinstance(spec, ReplicaSpec):
        board = RemoteBoard(spec.model, spec.ledger_url)
        return Replica(spec, board=board, sink=sink_of(spec.model), outlet=outlet)
    ledger_url = spec.models[0].ledger_url
    return Pool(
        spec,
        board_of=lambda model: RemoteBoard(model, ledger_url),
        sink_of=sink_of,
        outlet=outlet,
    )


def _remote_sink(actor: str) -> Sink:
    link = ActorLink(actor, timeout_s=_TAP_TIMEOUT_S)

    async def send(*messages: bytes) -> None:
        await link.call("observe", *messages)

    return send


def _remote_outlet(actor: str) -> Outlet:
    link = ActorLink(actor, timeout_s=_OUTLET_TIMEOUT_S)

    async def send(snapshot: Snapshot) -> None:
        await link.call("put", snapshot)

    return send
