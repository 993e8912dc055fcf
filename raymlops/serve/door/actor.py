"""The door as an actor, one on each node that has replicas, which outlives its driver.

It keeps nothing: started again it takes the listening sockets back from the replicas.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from raymlops.cluster import find, spawn
from raymlops.cluster.address import is_loopback
from raymlops.config import differences
from raymlops.errors import ClusterError, ConfigError, RaymlopsError
from raymlops.serve.door.door import Door
from raymlops.serve.door.lookout import Lookout, door_name, living_nodes
from raymlops.serve.door.neighbours import Card
from raymlops.serve.door.roster import Roster
from raymlops.serve.door.tls import TlsFiles
from raymlops.serve.http import HttpLimits
from raymlops.serve.protocols.front import front_routes
from raymlops.serve.protocols.index import register_index
from raymlops.serve.web import Handler

_logger = logging.getLogger(__name__)

_FOLDER = "raymlops-doors"
_TIMEOUT_S = 30.0


class DoorGoneError(ClusterError):
    """A door has gone with its node, or died and is being started again."""


class DoorActor:
    """Made where an event loop runs, as Ray does for an actor with coroutines."""

    def __init__(self, path: str, limits: HttpLimits, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._limits = limits
        self._door = Door(Path(path), _answers, limits, tls=tls)
        self._door.start()
        node = _node_id()
        self._address = living_nodes()[node]
        self._lookout = asyncio.get_running_loop().create_task(Lookout(self._door, node).run())

    async def encryption(self) -> TlsFiles | None:
        return self._tls

    async def limits(self) -> HttpLimits:
        return self._limits

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        return await self._door.listen(host, port)

    async def expect(self, model: str) -> None:
        self._door.expect(model)

    async def forget(self, model: str) -> None:
        self._door.forget(model)

    async def card(self, asker: str) -> Card:
        return self._door.card(self._address, asker)

    async def standing(self) -> dict[str, Any]:
        return self._door.standing()

    async def pid(self) -> int:
        return os.getpid()


def local_door(limits: HttpLimits, tls: TlsFiles | None) -> Any:
    """The handle of this node's door, which is opened unless it is open; blocks.

    Raises:
        ConfigError: it is open, and encrypts otherwise; or is not, and the files do not fit.
        ClusterError: it cannot be opened.
    """
    node = _node_id()
    name = door_name(node)
    if tls is not None and not _is_open(name):
        tls.context()
    door = spawn(DoorActor, name, str(door_path()), limits, tls, node_id=node)
    if (found := ask(door, "encryption")) != tls:
        raise ConfigError(
            f"the door of this node is open with TLS {found}, the settings ask for {tls}: one "
            "door serves all models, so give them the same, or start the cluster anew"
        )
    return door


def warn_of_doors(host: str, limits: HttpLimits | None) -> None:
    """Tells of doors that are not as those who ask for `host`, and `limits` if any, may think.

    They keep what they were opened with, and their connections."""
    kept: set[str] = set()
    beyond: set[str] = set()
    for door in all_doors():
        with suppress(ClusterError):  # who does not answer now is nobody to compare with
            beyond.update(each for each in ask(door, "standing")["addresses"] if _is_beyond(each))
            if limits is not None and hasattr(door, "limits"):  # not those of earlier versions
                kept.update(differences(ask(door, "limits"), limits))
    if kept:
        _logger.warning(
            "replicas follow serve.http, the door keeps %s for what it answers itself, since its "
            "end may break connections: for all of it start the cluster anew",
            ", ".join(sorted(kept)),
        )
    if beyond and is_loopback(host):
        _logger.warning(
            "serve.host is %s, but models are reached at %s too, where an earlier deployment asked "
            "for it: to close that start the cluster anew",
            host,
            ", ".join(sorted(beyond)),
        )


def _is_open(name: str) -> bool:
    """Also while it is being started again."""
    try:
        find(name)
    except ClusterError:
        return False
    return True


def _is_beyond(address: str) -> bool:
    """Whether other machines can reach it."""
    return not is_loopback(address.rpartition(":")[0])


def all_doors() -> Iterator[Any]:
    """The handles of the doors there are, on all nodes that are alive."""
    import ray

    living = {door_name(node) for node in living_nodes()}
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"] in living:
            try:
                door = find(actor["name"], namespace=actor["namespace"])
            except ClusterError:  # it has gone this moment
                continue
            yield door


def ask_all(method: str, *args: Any) -> list[Any]:
    """What the doors of all nodes answer; one that has gone with its node, or is being started
    again, is left out.

    Raises:
        ClusterError: one does not answer, or says that it cannot.
    """
    answers = []
    for door in all_doors():
        try:
            answers.append(ask(door, method, *args))
        except DoorGoneError as error:
            _logger.warning("%s", error)
    return answers


def ask(door: Any, method: str, *args: Any) -> Any:
    """What the door answers.

    Raises:
        DoorGoneError: its process or node has gone.
        ClusterError: it does not answer, or says that it cannot.
    """
    import ray
    from ray.exceptions import ActorUnschedulableError, RayActorError, RayError, RayTaskError

    try:
        return ray.get(getattr(door, method).remote(*args), timeout=_TIMEOUT_S)
    except RayTaskError as error:
        if isinstance(error.cause, RaymlopsError):
            raise error.cause from error
        raise
    except (RayActorError, ActorUnschedulableError) as error:
        raise DoorGoneError(f"the door that was asked for {method} has gone: {error!r}") from error
    except RayError as error:
        raise ClusterError(f"the door does not answer to {method}: {error!r}") from error


def door_path() -> Path:
    """The socket by which replicas of this node reach their door, in a folder of ours alone."""
    import ray

    node = _node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types it not
    (raylet,) = (each["RayletSocketName"] for each in nodes if each["NodeID"] == node)
    folder = Path(raylet).parent.parent / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise ClusterError(f"{folder} is open to others; remove it, and it will be made anew")
    return folder / node[:16]


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _answers(roster: Roster) -> Handler:
    async def is_ready() -> bool:
        return bool(roster.models) and not roster.unserved

    routes = front_routes(is_ready)
    register_index(routes, lambda: roster.models)
    return routes
