"""Ray Serve itself: started with or without its proxy, and the applications that run on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import dropwhile
from typing import Any

from raymlops.cluster.address import free_port
from raymlops.errors import ClusterError, ConfigError
from raymlops.serve.protocols.front import front_routes
from raymlops.serve.settings import ServeSettings
from raymlops.serve.web.asgi import App, Application

_logger = logging.getLogger(__name__)

FRONT = "raymlops-front"
_FRONT_BODY_BYTES = 64 * 1024 * 1024  # read and thrown away: what is not there needs no body


def start_serve(settings: ServeSettings) -> str | None:
    """Starts Serve unless it runs; returns the URL of its proxy, if `settings` ask for one.

    Raises:
        ConfigError: Serve runs already, without a proxy or with one at another address.
    """
    from ray import serve
    from ray.serve.context import _get_global_client  # no public call tells where Serve listens

    client: Any = _get_global_client(raise_if_no_controller_running=False)
    host, port = settings.host, settings.proxy_port
    if client is None:
        if port is None:
            serve.start(proxy_location="Disabled")
            return None
        port = port or free_port(host)
        serve.start(http_options={"host": host, "port": port})
    elif port is None:
        return None
    else:
        port = _running_port(client.http_config, host, port)
    _run_front()
    return http_url(host, port)


def http_url(host: str, port: int, *, encrypted: bool = False) -> str:
    """Where clients of this machine find what listens at `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    reachable = f"[{reachable}]" if ":" in reachable else reachable
    return f"{'https' if encrypted else 'http'}://{reachable}:{port}"


def run_application(
    application: Any, *, name: str, route_prefix: str | None, before: Any | None = None
) -> None:
    """Returns when every replica of it runs.

    Where they do not start, the application that ran `before` is run again: Serve goes by what it
    was given last, and would start none in place of those that still run and die later. One that
    is new is taken off again, also where this is interrupted.

    Raises:
        ClusterError: they do not start; the message tells why.
    """
    from ray import serve

    with contextlib.ExitStack() as undo:
        if name not in serve.status().applications:
            undo.callback(serve.delete, name)
        try:
            serve.run(application, name=name, route_prefix=route_prefix)
        except RuntimeError as error:  # all that Serve raises when replicas do not start
            failure = f"application {name} does not start: {_reasons(name) or error}"
            if before is None:
                raise ClusterError(failure) from error
        else:
            undo.pop_all()
            return
    try:
        serve.run(before, name=name, route_prefix=route_prefix)
    except RuntimeError as error:
        raise ClusterError(
            f"{failure}\nWhat ran before does not start again either: {_reasons(name) or error}"
        ) from error
    raise ClusterError(f"{failure}\nWhat ran before runs again")


def _reasons(name: str) -> str:
    from ray import serve

    deployments = serve.status().applications[name].deployments.values()
    for deployment in deployments:
        _logger.info("%s: %s", name, deployment.message)
    return "\n".join(_last_error(deployment.message) for deployment in deployments)


def _last_error(message: str) -> str:
    """What the last traceback in `message` ends with, or all of it where there is none."""
    _, frame, rest = message.rpartition('\n  File "')
    if not frame:
        return message
    _, *lines = rest.splitlines()
    return "\n".join(dropwhile(lambda line: line.startswith("    "), lines))


def _running_port(running: Any, host: str, port: int) -> int:
    if running.host is None or str(running.location) == "Disabled":
        raise ConfigError(
            f"Serve runs without a proxy, the settings ask for one at {host}:{port}: undeploy "
            "everything and shut Serve down, or leave serve.proxy_port out"
        )
    if running.host != host or port not in (0, running.port):
        raise ConfigError(
            f"Serve's proxy listens on {running.host}:{running.port}, the settings ask for "
            f"{host}:{port}: change them, or undeploy everything and shut Serve down"
        )
    return int(running.port)


def _run_front() -> None:
    from ray import serve

    running = serve.status().applications.get(FRONT)
    if running is not None and running.status == "RUNNING":
        return
    deployment = serve.deployment(name="front", ray_actor_options={"num_cpus": 0})
    application = deployment(serve.ingress()(_FrontServer)).bind()
    run_application(application, name=FRONT, route_prefix="/v2")


class _FrontServer:
    """The Serve deployment of the server as a whole."""

    def __serve_build_asgi_app__(self) -> App:
        return Application(front_routes(_all_running), max_body_bytes=_FRONT_BODY_BYTES)


async def _all_running() -> bool:
    from ray import serve

    status = await asyncio.to_thread(serve.status)
    return all(application.status == "RUNNING" for application in status.applications.values())
