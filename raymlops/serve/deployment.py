"""Models on Ray Serve: an application per model, a door per node, and the traffic board.

Ray Serve places, heals and updates the replicas; clients reach them through the door. Which
version answers is neither's business: that is in the traffic table, so that no release restarts
anything.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from raymlops.cluster.address import free_port, is_this_machine
from raymlops.errors import ClusterError, ConfigError, NotFoundError
from raymlops.ledger import open_ledger
from raymlops.serve.asgi import App
from raymlops.serve.autoscaling import WorkMeter
from raymlops.serve.client.messages import Answer, Columns
from raymlops.serve.door.actor import ask, ask_all, door_path, local_door
from raymlops.serve.garbage import spare_what_is_loaded
from raymlops.serve.link import ActorLink
from raymlops.serve.metrics import Outlet
from raymlops.serve.proxy import http_url, run_application, start_serve
from raymlops.serve.publishing import RemoteBoard, board_name, publish, wait_applied
from raymlops.serve.recorder import Sink
from raymlops.serve.replica import Replica, ReplicaSpec
from raymlops.serve.settings import ServeSettings
from raymlops.serve.tap import TapSummary
from raymlops.serve.traffic import TrafficTable
from raymlops.telemetry import Snapshot

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TAP_TIMEOUT_S = 30.0
_OUTLET_TIMEOUT_S = 2.0
_SHUTDOWN_S = 10.0  # for the monitor to be told of the last answers


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A model that answers below `url`, as traffic table `generation` says.

    `proxy_url` is Ray Serve's own proxy, and `grpc` HOST:PORT of gRPC, where there is one.
    """

    model: str
    url: str
    proxy_url: str | None
    grpc: str | None
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
    log_folder: str = "logs",
    slice_by: tuple[str, ...] = (),
) -> Deployment:
    """Serves `model` on the Ray this process is connected to; returns when every replica answers.

    Without a published traffic table the champion gets all of the traffic. Deploying again
    replaces the replicas one by one, and drops no request.

    Args:
        tap: the name of the actor whose `observe` gets a `TapSummary` of every answer, as bytes.
        exporter: that of the one whose `put(Snapshot)` is given the metrics of each replica.
        log_folder: where each replica writes its request log, if `settings.log` is enabled.
        slice_by: features by which the monitor can tell performance apart.

    Raises:
        NotFoundError: the ledger has neither a traffic table nor a champion of `model`.
        ConfigError: Serve runs already, without the proxy that `settings` ask for, or the port
            for gRPC is another model's.
        ClusterError: this process is not connected to Ray, the port is taken, or the replicas do
            not start.
    """
    import ray

    if _MODEL_NAME.fullmatch(model) is None:
        raise ValueError(f"model '{model}' cannot be part of a URL: use letters, digits, _ . -")
    if not ray.is_initialized():
        raise ClusterError("not connected to Ray: call this within `raymlops.cluster.connect`")
    settings = settings or ServeSettings()
    grpc = _grpc_address(model, settings)
    spec = _spec(
        model, settings, ledger_url, store_uri, grpc=grpc, log_folder=log_folder, slice_by=slice_by
    )
    generation = _ensure_table(model, ledger_url)
    proxy_url = start_serve(settings)
    door = local_door(settings.http, settings.tls)
    host, port = ask(door, "listen", settings.host, settings.port)
    ask(door, "expect", model)
    _run_model(spec, settings, tap, exporter)
    wait_applied(model, generation, ledger_url=ledger_url)
    return Deployment(
        model=model,
        url=http_url(host, port, encrypted=settings.tls is not None),
        proxy_url=proxy_url,
        grpc=None if grpc is None else f"{grpc[0]}:{grpc[1]}",
        application=application_name(model),
        board=board_name(ledger_url),
        generation=generation,
    )


def undeploy(model: str) -> None:
    """Ends the replicas of `model`, once they have answered; its traffic table stays."""
    from ray import serve

    serve.delete(application_name(model))
    ask_all("forget", model)


def model_handle(model: str) -> Any:
    """A handle for other deployments of Ray Serve, and for drivers: `await
    model_handle("flights").infer.remote(columns, key="user-7")` is what `Client.infer` answers.

    It takes `request_id`, `key`, `event_time` and `version` as that does, and chooses the replica
    by `routing` of the settings. Whoever is on the cluster needs no key.

    Raises:
        NotFoundError: the model is not deployed.
    """
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_app_handle(application_name(model))
    except RayServeException as error:
        raise NotFoundError(f"no model '{model}' is deployed on this cluster") from error


def standing() -> list[dict[str, Any]]:
    """Every door there is: its addresses, models and replicas, with their load and latency."""
    return ask_all("standing")


def application_name(model: str) -> str:
    """The Serve application of `model`, as the Ray dashboard shows it."""
    return f"raymlops-model-{model}"


def _spec(
    model: str,
    settings: ServeSettings,
    ledger_url: str,
    store_uri: str,
    *,
    grpc: tuple[str, int] | None,
    log_folder: str,
    slice_by: tuple[str, ...],
) -> ReplicaSpec:
    return ReplicaSpec(
        model=model,
        ledger_url=ledger_url,
        store_uri=store_uri,
        batch=settings.batch,
        engine=settings.engine,
        cache=settings.cache,
        swap=settings.swap,
        http=settings.http,
        drain_timeout_s=settings.drain_timeout_s,
        log=settings.log,
        log_folder=log_folder,
        slice_by=slice_by,
        traces_to=settings.traces_to,
        keys_file=settings.keys_file,
        tls=settings.tls,
        grpc=grpc,
        deferred=settings.deferred,
    )


def _grpc_address(model: str, settings: ServeSettings) -> tuple[str, int] | None:
    """Where the model's replicas listen for gRPC.

    Raises:
        ConfigError: another model's do so there; who came would reach one or the other.
    """
    if settings.grpc_port is None:
        return None
    address = settings.host, settings.grpc_port or free_port(settings.host)
    for door in standing():
        for replica in door["replicas"]:
            if replica["model"] != model and replica.get("grpc") == list(address):
                raise ConfigError(
                    f"model '{replica['model']}' answers gRPC at {address[0]}:{address[1]}; give "
                    f"'{model}' another serve.grpc_port, or 0 for any"
                )
    return address


def _ensure_table(model: str, ledger_url: str) -> int:
    with open_ledger(ledger_url) as ledger:
        published = ledger.releases.published(model)
        if published is not None:
            return published[0]
        champion = ledger.registry.resolve(f"{model}@champion")
    return publish(TrafficTable.champion(model, str(champion.version)), ledger_url=ledger_url)


def _run_model(
    spec: ReplicaSpec, settings: ServeSettings, tap: str | None, exporter: str | None
) -> None:
    from ray import serve

    chosen: dict[str, Any] = {"num_replicas": settings.num_replicas}
    if settings.autoscaling is not None:
        chosen = {"autoscaling_config": settings.autoscaling.for_serve()}
    if settings.routing is not None:
        from raymlops.serve.routing.ray_router import router_config

        chosen["request_router_config"] = router_config(settings.routing)
    deployment = serve.deployment(
        name=spec.model,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.num_cpus},
        max_surge_percent=100,  # the new replicas answer before the old ones stop
        max_constructor_retry_count=3,
        health_check_period_s=2,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=settings.drain_timeout_s + _SHUTDOWN_S,
        **chosen,
    )
    address = (settings.host, settings.port)
    application = deployment(serve.ingress()(_ModelServer)).bind(spec, tap, exporter, address)
    route = f"/v2/models/{spec.model}"
    run_application(application, name=application_name(spec.model), route_prefix=route)


class _ModelServer:
    """The Serve deployment of a model; `serve.ingress` gives it the application it builds."""

    def __init__(
        self, spec: ReplicaSpec, tap: str | None, exporter: str | None, address: tuple[str, int]
    ) -> None:
        self._spec, self._address = spec, address
        self._work = WorkMeter()
        self._replica = Replica(
            spec,
            board=RemoteBoard(spec.model, spec.ledger_url),
            sink=None if tap is None else _remote_sink(tap),
            outlet=None if exporter is None else _remote_outlet(exporter),
        )

    async def __serve_build_asgi_app__(self) -> App:
        await self._replica.load()
        spare_what_is_loaded()
        door = await asyncio.to_thread(local_door, self._spec.http, self._spec.tls)
        if is_this_machine(self._address[0]):  # else clients come through the doors of others
            await door.listen.remote(*self._address)
        self._replica.stand_behind(await asyncio.to_thread(door_path))
        return self._replica.app

    async def infer(self, columns: Columns, **about: Any) -> Answer:
        """For `model_handle`."""
        return await self._replica.infer(columns, **about)

    def record_routing_stats(self) -> dict[str, float]:
        """Asked by Serve every ten seconds; weighted round robin reads it."""
        return {"weight": self._replica.rows_per_s}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve every ten seconds where `autoscaling` is set."""
        return self._work.read(self._replica.spent_s, self._replica.num_in_work)

    def check_health(self) -> None:
        self._replica.check_health()


def _remote_sink(actor: str) -> Sink:
    link = ActorLink(actor, timeout_s=_TAP_TIMEOUT_S)

    async def send(summary: TapSummary) -> None:
        await link.call("observe", summary.to_bytes())

    return send


def _remote_outlet(actor: str) -> Outlet:
    link = ActorLink(actor, timeout_s=_OUTLET_TIMEOUT_S)

    async def send(snapshot: Snapshot) -> None:
        await link.call("put", snapshot)

    return send
