"""Models on Ray Serve: an application per model, one for the server, and the traffic board.

Ray Serve places, heals and updates the replicas, and its proxy carries HTTP to them. Which
version answers is not its business: that is in the traffic table, so that no release restarts
anything.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from raymlops.cluster.address import free_port
from raymlops.errors import ClusterError, ConfigError
from raymlops.ledger import open_ledger
from raymlops.serve.asgi import App, Application
from raymlops.serve.batching import BatchPolicy
from raymlops.serve.front import front_routes
from raymlops.serve.link import ActorLink
from raymlops.serve.metrics import Outlet
from raymlops.serve.publishing import RemoteBoard, board_name, publish, wait_applied
from raymlops.serve.recorder import Sink
from raymlops.serve.replica import Replica, ReplicaSpec
from raymlops.serve.routing import RoutingName
from raymlops.serve.tap import TapSummary
from raymlops.serve.traffic import TrafficTable
from raymlops.telemetry import Snapshot

FRONT = "raymlops-front"
_FRONT_BODY_BYTES = 64 * 1024 * 1024  # read and thrown away: what is not there needs no body

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TAP_TIMEOUT_S = 30.0
_OUTLET_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where the server listens, and how a model's replicas are sized. Port 0 is any free one.

    `routing` is the policy by which Serve's proxy and handles choose a replica; None is Serve's
    own, two choices with those of the same node first.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    num_replicas: int = 1
    num_cpus: float = 1.0
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    max_body_bytes: int = 8 * 1024 * 1024
    # Serve's default of 5 would keep batches that small; the batcher refuses what is too much.
    max_ongoing_requests: int = 4096
    routing: RoutingName | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not within 0 and 65535")
        for name in ("num_replicas", "max_body_bytes", "max_ongoing_requests"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, at least 1 is needed")
        if self.num_cpus < 0:
            raise ValueError(f"num_cpus is {self.num_cpus}, it cannot be negative")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A model that answers below `url`, as traffic table `generation` says."""

    model: str
    url: str
    application: str
    board: str
    generation: int


def deploy(
    model: str,
    *,
    ledger_url: str,
    store_uri: str,
    settings: ServeSettings | None = None,
    tap: str | None = None,
    exporter: str | None = None,
) -> Deployment:
    """Serves `model` on the Ray this process is connected to; returns when every replica answers.

    Without a published traffic table the champion gets all of the traffic. Deploying again
    replaces the replicas one by one, and drops no request.

    Args:
        tap: the name of the actor whose `observe(TapSummary)` is told of every answer.
        exporter: that of the one whose `put(Snapshot)` is given the metrics of each replica.

    Raises:
        NotFoundError: the ledger has neither a traffic table nor a champion of `model`.
        ConfigError: Serve runs already, on another address than `settings` ask for.
        ClusterError: this process is not connected to Ray, or the replicas do not start.
    """
    import ray

    if _MODEL_NAME.fullmatch(model) is None:
        raise ValueError(f"model '{model}' cannot be part of a URL: use letters, digits, _ . -")
    if not ray.is_initialized():
        raise ClusterError("not connected to Ray: call this within `raymlops.cluster.connect`")
    settings = settings or ServeSettings()
    spec = ReplicaSpec(
        model=model,
        ledger_url=ledger_url,
        store_uri=store_uri,
        batch=settings.batch,
        max_body_bytes=settings.max_body_bytes,
    )
    generation = _ensure_table(model, ledger_url)
    url = _start_serve(settings)
    _run_front()
    _run_model(spec, settings, tap, exporter)
    wait_applied(model, generation, ledger_url=ledger_url)
    return Deployment(
        model=model,
        url=url,
        application=application_name(model),
        board=board_name(ledger_url),
        generation=generation,
    )


def undeploy(model: str) -> None:
    """Ends the replicas of `model`, once they have answered; its traffic table stays."""
    from ray import serve

    serve.delete(application_name(model))


def application_name(model: str) -> str:
    """The Serve application of `model`, as the Ray dashboard shows it."""
    return f"raymlops-model-{model}"


def _ensure_table(model: str, ledger_url: str) -> int:
    with open_ledger(ledger_url) as ledger:
        published = ledger.releases.published(model)
        if published is not None:
            return published[0]
        champion = ledger.registry.resolve(f"{model}@champion")
    return publish(TrafficTable.champion(model, str(champion.version)), ledger_url=ledger_url)


def _start_serve(settings: ServeSettings) -> str:
    """The URL of the proxy, started unless it runs."""
    from ray import serve
    from ray.serve.context import _get_global_client  # no public call tells where Serve listens

    client: Any = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        port = settings.port or free_port(settings.host)
        serve.start(http_options={"host": settings.host, "port": port})
        return _url(settings.host, port)
    host, port = client.http_config.host, client.http_config.port
    if host != settings.host or settings.port not in (0, port):
        raise ConfigError(
            f"Serve listens on {host}:{port}, the settings ask for {settings.host}:"
            f"{settings.port}: change them, or undeploy everything and shut Serve down"
        )
    return _url(host, port)


def _url(host: str, port: int) -> str:
    reachable = "127.0.0.1" if host == "0.0.0.0" else host
    return f"http://{reachable}:{port}"


def _run_front() -> None:
    from ray import serve

    running = serve.status().applications.get(FRONT)
    if running is not None and running.status == "RUNNING":
        return
    deployment = serve.deployment(name="front", ray_actor_options={"num_cpus": 0})
    application = deployment(serve.ingress()(_FrontServer)).bind()
    _run(application, name=FRONT, route_prefix="/v2")


def _run_model(
    spec: ReplicaSpec, settings: ServeSettings, tap: str | None, exporter: str | None
) -> None:
    from ray import serve

    chosen: dict[str, Any] = {}
    if settings.routing is not None:
        from raymlops.serve.routing.ray_router import router_config

        chosen["request_router_config"] = router_config(settings.routing)
    deployment = serve.deployment(
        name=spec.model,
        num_replicas=settings.num_replicas,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.num_cpus},
        max_surge_percent=100,  # the new replicas answer before the old ones stop
        max_constructor_retry_count=3,
        health_check_period_s=2,
        **chosen,
    )
    application = deployment(serve.ingress()(_ModelServer)).bind(spec, tap, exporter)
    route = f"/v2/models/{spec.model}"
    _run(application, name=application_name(spec.model), route_prefix=route)


def _run(application: Any, *, name: str, route_prefix: str) -> None:
    from ray import serve

    try:
        serve.run(application, name=name, route_prefix=route_prefix)
    except RuntimeError as error:  # all that Serve raises when replicas do not start
        deployments = serve.status().applications[name].deployments.values()
        reasons = "\n".join(deployment.message for deployment in deployments)
        raise ClusterError(f"application {name} does not start: {reasons or error}") from error


class _ModelServer:
    """The Serve deployment of a model; `serve.ingress` gives it the application it builds."""

    def __init__(self, spec: ReplicaSpec, tap: str | None, exporter: str | None) -> None:
        self._replica = Replica(
            spec,
            board=RemoteBoard(spec.model, spec.ledger_url),
            sink=None if tap is None else _remote_sink(tap),
            outlet=None if exporter is None else _remote_outlet(exporter),
        )

    async def __serve_build_asgi_app__(self) -> App:
        await self._replica.load()
        return self._replica.app

    def check_health(self) -> None:
        self._replica.check_health()


class _FrontServer:
    """The Serve deployment of the server as a whole."""

    def __serve_build_asgi_app__(self) -> App:
        return Application(front_routes(_all_running), max_body_bytes=_FRONT_BODY_BYTES)


def _remote_sink(actor: str) -> Sink:
    link = ActorLink(actor, timeout_s=_TAP_TIMEOUT_S)

    async def send(summary: TapSummary) -> None:
        await link.call("observe", summary)

    return send


def _remote_outlet(actor: str) -> Outlet:
    link = ActorLink(actor, timeout_s=_OUTLET_TIMEOUT_S)

    async def send(snapshot: Snapshot) -> None:
        await link.call("put", snapshot)

    return send


async def _all_running() -> bool:
    from ray import serve

    status = await asyncio.to_thread(serve.status)
    return all(application.status == "RUNNING" for application in status.applications.values())
