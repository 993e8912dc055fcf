"""The one place that calls `ray.init`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymlops.cluster.address import is_loopback, split_address
from raymlops.cluster.auth import ensure_token, token_auth_wanted
from raymlops.cluster.environment import applied, ray_variables
from raymlops.cluster.head import Head, find_head
from raymlops.cluster.lifecycle import recorded_cluster
from raymlops.cluster.settings import AUTO, LOCAL, ClusterSettings
from raymlops.errors import ClusterError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Session:
    """A connection of this process to Ray; `owned` where it also started that Ray."""

    address: str
    dashboard_url: str | None
    namespace: str
    owned: bool


@contextmanager
def connect(settings: ClusterSettings, *, home: Path) -> Iterator[Session]:
    """Ray, as `settings` ask for it, until the block ends.

    A private Ray ends with the block, every process of it. A cluster that was joined goes on. So
    does a Ray that this process had initialised before: it is joined as it is.

    Raises:
        ClusterError: There is no such cluster, or it does not take this process in.
    """
    import ray

    if ray.is_initialized():
        yield _current(settings)
    elif is_private(settings, home=home):
        with _private(settings) as session:
            yield session
    else:
        with _joined(find_head(resolve_address(settings.address, home=home)), settings) as session:
            yield session


def is_private(settings: ClusterSettings, *, home: Path) -> bool:
    """Whether `settings` ask for a Ray that ends with the process, and not for one to join."""
    if settings.address is not None:
        return settings.address == LOCAL
    known = bool(os.environ.get("RAY_ADDRESS")) or recorded_cluster(home) is not None
    return settings.is_sized or not known


def resolve_address(address: str | None, *, home: Path) -> str:
    """HOST:PORT of the cluster that `address`, HOST:PORT, "auto" or None, stands for."""
    if address is not None and address != AUTO:
        return address
    if given := os.environ.get("RAY_ADDRESS"):
        try:
            split_address(given)
        except ValueError as error:
            raise ClusterError(
                f"RAY_ADDRESS is {given!r}: raymlops joins a head at HOST:PORT, not Ray Client"
            ) from error
        return given
    recorded = recorded_cluster(home)
    if recorded is None:
        raise ClusterError(
            f"no cluster to join: RAY_ADDRESS is not set and {home} records none; start one with "
            f"`raymlops up`, or set the address to {LOCAL!r}"
        )
    if recorded.stale:
        raise ClusterError(
            f"the cluster recorded in {home} has ended (the machine was restarted, or its head "
            f"crashed): start it again with `raymlops up`, or set the address to {LOCAL!r}"
        )
    return recorded.address


@contextmanager
def _private(settings: ClusterSettings) -> Iterator[Session]:
    import ray

    token_auth = token_auth_wanted()
    if token_auth:
        ensure_token()
    with applied(ray_variables(token_auth=token_auth, loopback=True)):
        try:
            context = _started(settings)
            yield Session(
                address=context.address_info["gcs_address"],
                dashboard_url=_http(context.dashboard_url),
                namespace=settings.namespace,
                owned=True,
            )
        finally:
            ray.shutdown(wait_for_processes=True)
            _forget_serve()


def _started(settings: ClusterSettings) -> Any:
    """What Ray tells of one that was started for this process.

    Raises:
        ClusterError: it did not start.
    """
    import ray

    try:
        return ray.init(
            address="local",
            num_cpus=settings.num_cpus,
            object_store_memory=settings.object_store_bytes,
            include_dashboard=settings.dashboard,
            namespace=settings.namespace,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except Exception as error:  # Ray raises nothing narrower where a machine is too slow or full
        raise ClusterError(
            f"no Ray of its own could be started for this command: {error} See what the machine "
            "is busy with, or join a cluster: `raymlops up` starts one"
        ) from error


@contextmanager
def _joined(head: Head, settings: ClusterSettings) -> Iterator[Session]:
    import ray
    from ray.exceptions import RayError

    if head.token is None and os.environ.get("RAY_AUTH_MODE") == "token":
        raise ClusterError(
            f"RAY_AUTH_MODE is 'token', but Ray at {head.address} takes anybody in: start it with "
            "a token, or set RAY_AUTH_MODE=disabled to join it"
        )
    # Both sides must agree: this process serves its workers, and would turn away those without.
    host, _ = split_address(head.address)
    variables = ray_variables(token_auth=head.token is not None, loopback=is_loopback(host))
    with applied(variables):
        try:
            try:
                ray.init(
                    address=head.address,
                    namespace=settings.namespace,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
            except (ConnectionError, RuntimeError, RayError) as error:
                raise ClusterError(
                    f"Ray at {head.address} answers, but cannot be joined: {error}"
                ) from error
            yield Session(
                address=head.address,
                dashboard_url=head.dashboard_url(),
                namespace=settings.namespace,
                owned=False,
            )
        finally:
            ray.shutdown()
            _forget_serve()


def _current(settings: ClusterSettings) -> Session:
    import ray

    untyped: Any = ray
    context = ray.get_runtime_context()
    unsaid = LOCAL if settings.is_sized else context.gcs_address
    asked = (settings.address or unsaid, settings.namespace)
    if asked != (context.gcs_address, context.namespace):
        _logger.warning(
            "Ray is initialised in this process already: joined %s, namespace %s, and not %s, %s",
            context.gcs_address,
            context.namespace,
            *asked,
        )
    return Session(
        address=context.gcs_address,
        dashboard_url=_http(untyped._private.worker.get_dashboard_url()),
        namespace=context.namespace,
        owned=False,
    )


def _forget_serve() -> None:
    """Ray Serve goes on calling the controller it knew, also after the end of its cluster."""
    context = sys.modules.get("ray.serve.context")
    if context is not None:
        context._set_global_client(None)


def _http(host_port: str | None) -> str | None:
    return f"http://{host_port}" if host_port else None
