"""Many models on the same replicas of Ray Serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from raymlops.errors import ConfigError, NotFoundError
from raymlops.serve.deployment.hosting import Origin, check_room, run_replicas
from raymlops.serve.deployment.placing import (
    check_place,
    ensure_table,
    is_alone,
    open_door,
    pool_name,
    pools,
    spec_of,
)
from raymlops.serve.deployment.proxy import start_serve
from raymlops.serve.door.actor import ask_all
from raymlops.serve.replica.pool import PoolSpec
from raymlops.serve.settings import ServeSettings
from raymlops.serve.traffic.publishing import wait_applied
from raymlops.storage import Copies


def deploy_pool(
    name: str,
    models: Sequence[str],
    *,
    ledger_url: str,
    store_uri: str,
    settings: ServeSettings | None = None,
    taps: Mapping[str, str] | None = None,
    exporter: str | None = None,
    log_folder: str = "logs",
    slice_by: tuple[str, ...] = (),
    copies: Copies | None = None,
) -> str:
    """Serves many models by the same replicas, each of which holds as many of them as
    `settings.pool` says and loads the others when they are asked for; returns the URL below which
    all answer, each by its own traffic table. Deploying again, with other models too, replaces
    the replicas one by one.

    The models share the settings. They are reached through the door and by `model_handle`; gRPC
    and the proxy of Ray Serve name no model that a pool could tell from another.

    Args:
        taps: by model, as `tap` of `deploy`.

    Raises:
        NotFoundError: the ledger has neither a traffic table nor a champion of a model.
        ConfigError: as `check_pool`.
        ClusterError: as `deploy`.
    """
    settings = settings or ServeSettings()
    check_pool(name, models, settings)
    before = pools()
    specs = tuple(
        spec_of(
            model,
            settings,
            ledger_url,
            store_uri,
            log_folder=log_folder,
            slice_by=slice_by,
            copies=copies,
        )
        for model in models
    )
    spec = PoolSpec(name=name, models=specs, policy=settings.pool)
    start_serve(settings)
    generations = {model: ensure_table(model, ledger_url) for model in models}
    url = open_door(settings, models)
    origin = Origin(spec=spec, settings=settings, taps=taps or {}, exporter=exporter)
    _run(name, origin, newcomers=set(models) - before.keys())
    for model, generation in generations.items():
        wait_applied(model, generation, ledger_url=ledger_url)
    _forget(model for model, pool in before.items() if pool == name and model not in models)
    return url


def _run(name: str, origin: Origin, *, newcomers: Iterable[str]) -> None:
    with ExitStack() as undo:
        undo.callback(_forget, newcomers)
        run_replicas(origin, application=pool_name(name), route=None)
        undo.pop_all()


def _forget(models: Iterable[str]) -> None:
    """Who asks for them is told at every door that they are not deployed."""
    for model in models:
        ask_all("forget", model)


def check_pool(name: str, models: Sequence[str], settings: ServeSettings) -> None:
    """Returns quietly when the models can be deployed as that pool; changes nothing.

    Raises:
        ConfigError: there is no model, one is named twice, deployed by itself or in another
            pool, a name cannot be part of a URL, or `settings` ask for what a pool has not.
        ClusterError: this process is not connected to Ray, or that never has the CPUs for it.
    """
    if not models or len(set(models)) < len(models):
        raise ConfigError(f"a pool needs models, each once: {list(models)}")
    check_place(name, of="pool")
    for model in models:
        check_place(model)
    for asked in ("grpc_port", "proxy_port"):
        if getattr(settings, asked) is not None:
            raise ConfigError(
                f"serve.{asked} is {getattr(settings, asked)}, and a pool does not answer there: "
                "leave it out, or deploy the models one by one"
            )
    known = pools()
    for model in models:
        if known.get(model, name) != name or is_alone(model):
            where = f"in pool '{known[model]}'" if model in known else "by itself"
            raise ConfigError(
                f"model '{model}' is deployed {where}: undeploy that first, or leave the model out"
            )
    check_room(pool_name(name), settings)


def undeploy_pool(name: str) -> tuple[str, ...]:
    """Ends the replicas of the pool, once they have answered; returns its models, whose traffic
    tables stay.

    Raises:
        NotFoundError: there is no such pool.
    """
    from ray import serve

    models = tuple(model for model, pool in pools().items() if pool == name)
    if not models:
        raise NotFoundError(f"no pool '{name}' is deployed on this cluster")
    serve.delete(pool_name(name))
    _forget(models)
    return models
