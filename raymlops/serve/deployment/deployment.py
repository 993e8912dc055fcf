"""Models on Ray Serve: an application per model, a door per node, and the traffic board.

Ray Serve places, heals and updates the replicas; clients reach them through the door. Which
version answers is neither's business: that is in the traffic table, so that no release restarts
anything.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from raymlops.cluster.address import free_port, is_this_machine
from raymlops.errors import ClusterError, ConfigError, NotFoundError
from raymlops.serve.deployment.hosting import Origin, check_room, run_replicas
from raymlops.serve.deployment.placing import (
    application_name,
    check_place,
    ensure_table,
    is_alone,
    open_door,
    pool_name,
    pools,
    spec_of,
    standing,
)
from raymlops.serve.deployment.proxy import start_serve
from raymlops.serve.door.actor import ask_all
from raymlops.serve.settings import ServeSettings
from raymlops.serve.traffic.publishing import board_name, wait_applied
from raymlops.storage import Copies

ANOTHER_CLUSTER = (
    "for another one set RAYMLOPS__CLUSTER__ADDRESS, to auto for that of `raymlops up`"
)


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
    copies: Copies | None = None,
) -> Deployment:
    """Serves `model` on the Ray this process is connected to; returns when every replica answers.

    Without a published traffic table the champion gets all of the traffic. Deploying again
    replaces the replicas one by one, and drops no request; where the new ones do not start, those
    that run go on, and of a model that was not deployed nothing stays.

    Args:
        tap: the name of the actor whose `observe` gets a `TapSummary` of every answer, as bytes,
            one or more in a call.
        exporter: that of the one whose `put(Snapshot)` is given the metrics of each replica.
        log_folder: where each replica writes its request log, if `settings.log` is enabled.
        slice_by: features by which the monitor can tell performance apart.
        copies: what each node keeps of the blobs that its replicas load; without it a replica
            cannot start while the store is away.

    Raises:
        NotFoundError: the ledger has neither a traffic table nor a champion of `model`.
        ConfigError: Serve runs already, without the proxy that `settings` ask for, the port for
            gRPC is another model's, or the model is in a pool.
        ClusterError: this process is not connected to Ray, the port is taken, or the replicas do
            not start, or never would for want of CPUs.
    """
    settings = settings or ServeSettings()
    check_deployment(model, settings)
    grpc = _grpc_address(model, settings)
    spec = spec_of(
        model,
        settings,
        ledger_url,
        store_uri,
        grpc=grpc,
        log_folder=log_folder,
        slice_by=slice_by,
        copies=copies,
    )
    taps = {} if tap is None else {model: tap}
    generation = ensure_table(model, ledger_url)
    proxy_url = start_serve(settings)
    url = open_door(settings, (model,))
    _run(model, Origin(spec=spec, settings=settings, taps=taps, exporter=exporter))
    wait_applied(model, generation, ledger_url=ledger_url)
    return Deployment(
        model=model,
        url=url,
        proxy_url=proxy_url,
        grpc=None if grpc is None else f"{grpc[0]}:{grpc[1]}",
        application=application_name(model),
        board=board_name(ledger_url),
        generation=generation,
    )


def _run(model: str, origin: Origin) -> None:
    with ExitStack() as undo:
        undo.callback(_forget_what_is_gone, model)
        run_replicas(origin, application=application_name(model), route=f"/v2/models/{model}")
        undo.pop_all()


def _forget_what_is_gone(model: str) -> None:
    """Clients need not wait for it, nor did they before."""
    if not is_alone(model):
        ask_all("forget", model)


def check_deployment(model: str, settings: ServeSettings) -> None:
    """Returns quietly when the model can be deployed like that; changes nothing.

    Raises:
        ConfigError: it is in a pool, or its name cannot be part of a URL.
        ClusterError: this process is not connected to Ray, or that never has the CPUs for it.
    """
    _check_alone(model)
    check_room(application_name(model), settings)


def _check_alone(model: str) -> None:
    check_place(model)
    if (pool := pools().get(model)) is not None:
        raise ConfigError(
            f"model '{model}' is in pool '{pool}', which answers for it: undeploy that, or deploy "
            "it without the model"
        )


def undeploy(model: str) -> None:
    """Ends the replicas of `model`, once they have answered; its traffic table stays.

    Raises:
        NotFoundError: it is not deployed on the Ray this process is connected to.
        ConfigError: it is in a pool.
        ClusterError: this process is not connected to Ray.
    """
    from ray import serve

    _check_alone(model)
    known = {each for door in standing() for each in door["models"]}
    if is_alone(model):
        serve.delete(application_name(model))
    elif model not in known:
        raise NotFoundError(
            f"'{model}' is not deployed on this cluster, which serves "
            f"{', '.join(sorted(known)) or 'nothing'}; {ANOTHER_CLUSTER}"
        )
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

    pool = pools().get(model)
    try:
        if pool is None:
            return serve.get_app_handle(application_name(model))
        return serve.get_app_handle(pool_name(pool)).options(multiplexed_model_id=model)
    except RayServeException as error:
        raise NotFoundError(f"no model '{model}' is deployed on this cluster") from error


def _grpc_address(model: str, settings: ServeSettings) -> tuple[str, int] | None:
    """Where the model's replicas listen for gRPC.

    Raises:
        ConfigError: another model's do so there; who came would reach one or the other.
        ClusterError: so does somebody else, such as another cluster of this machine.
    """
    if settings.grpc_port is None:
        return None
    host, port = settings.host, settings.grpc_port or free_port(settings.host)
    is_held = False
    for door in standing():
        for replica in door["replicas"]:
            if model in replica["models"]:
                # One that has just come did not say yet where it listens.
                held = replica.get("grpc", (host, port))
                is_held |= held is not None and held[1] == port
            elif replica.get("grpc") == [host, port]:
                raise ConfigError(
                    f"model '{replica['models'][0]}' answers gRPC at {host}:{port}; "
                    f"give '{model}' another serve.grpc_port, or 0 for any"
                )
    # The replicas would not fail there: they share the port with whoever shares it, too.
    if not is_held and is_this_machine(host) and free_port(host, preferred=port) != port:
        raise ClusterError(
            f"another program, or another cluster, listens on {host}:{port}; "
            f"give '{model}' another serve.grpc_port, or 0 for any"
        )
    return host, port
