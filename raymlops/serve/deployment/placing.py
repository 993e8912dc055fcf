"""What precedes replicas: names that can be served, a table to follow, a door that expects them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raymlops.errors import ClusterError, ConfigError
from raymlops.ledger import open_ledger
from raymlops.ledger.names import check_name
from raymlops.serve.deployment.proxy import http_url
from raymlops.serve.door.actor import ask, ask_all, local_door
from raymlops.serve.replica.spec import ReplicaSpec
from raymlops.serve.settings import ServeSettings
from raymlops.serve.traffic import TrafficTable
from raymlops.serve.traffic.publishing import publish
from raymlops.storage import Copies


def application_name(model: str) -> str:
    """The Serve application of `model`, as the Ray dashboard shows it."""
    return f"raymlops-model-{model}"


def pool_name(pool: str) -> str:
    """The Serve application of that pool."""
    return f"raymlops-pool-{pool}"


def standing() -> list[dict[str, Any]]:
    """Every door there is: its addresses, models and replicas, with their load and latency."""
    return ask_all("standing")


def pools() -> dict[str, str]:
    """By model, the pool that it is in."""
    return {
        model: replica["pool"]
        for door in standing()
        for replica in door["replicas"]
        if "pool" in replica and not replica["leaving"]
        for model in replica["models"]
    }


def is_alone(model: str) -> bool:
    """Whether it is deployed, and in no pool."""
    from ray import serve

    return application_name(model) in serve.status().applications


def check_place(name: str, *, of: str = "model") -> None:
    """Raises ConfigError when `name` cannot be part of a URL, ClusterError without Ray."""
    import ray

    try:
        check_name(name, of=of)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not ray.is_initialized():
        raise ClusterError("not connected to Ray: call this within `raymlops.cluster.connect`")


def open_door(settings: ServeSettings, models: Sequence[str]) -> str:
    """Where clients come in, and wait for the models from now on."""
    door = local_door(settings.http, settings.tls)
    host, port = ask(door, "listen", settings.host, settings.port)
    for model in models:
        ask(door, "expect", model)
    return http_url(host, port, encrypted=settings.tls is not None)


def ensure_table(model: str, ledger_url: str) -> int:
    """The generation of the table that the model's replicas follow first: the one that was
    published, else one of the champion alone.

    Raises:
        NotFoundError: there is neither.
    """
    with open_ledger(ledger_url) as ledger:
        published = ledger.releases.published(model)
        if published is not None:
            return published[0]
        champion = ledger.registry.resolve(f"{model}@champion")
    return publish(TrafficTable.champion(model, str(champion.version)), ledger_url=ledger_url)


def spec_of(
    model: str,
    settings: ServeSettings,
    ledger_url: str,
    store_uri: str,
    *,
    grpc: tuple[str, int] | None = None,
    log_folder: str,
    slice_by: tuple[str, ...],
    copies: Copies | None,
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
        cors=settings.cors,
        tls=settings.tls,
        grpc=grpc,
        deferred=settings.deferred,
        copies=copies,
    )
