"""Questions to a Ray head over gRPC, each answered or refused within seconds.

Ray's own client waits 40 s for a head that is not there, reports a missing token as a bare
ConnectionError or aborts the process, and keeps what it learned for the life of the process.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from raymlops.cluster.address import is_loopback, is_this_machine, split_address
from raymlops.cluster.auth import find_token, token_path
from raymlops.cluster.holders import Holder, share_out
from raymlops.errors import ClusterError

_TIMEOUT_S = 5.0

_TABLES = {
    "actors": ("ActorInfoGcsService.GetAllActorInfo", "actor_table_data"),
    "groups": ("PlacementGroupInfoGcsService.GetAllPlacementGroup", "placement_group_table_data"),
    "jobs": ("JobInfoGcsService.GetAllJobInfo", "job_info_list"),
}
"""Of Ray's head, with the calls that ask for them and the fields of their replies."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster; resources as Ray names them, memory in bytes."""

    node_id: str
    host: str
    alive: bool
    used: dict[str, float]
    total: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head that answered; `token` is None where it asks for none."""

    address: str
    ray_version: str
    token: str | None

    def dashboard_url(self) -> str | None:
        """Where the dashboard listens, as the head sees it; None without a dashboard."""
        reply = _ask(
            self.address,
            "gcs_service.InternalKVGcsService.InternalKVGet",
            token=self.token,
            key=b"dashboard",
            namespace=b"dashboard",
        )
        return f"http://{reply.value.decode()}" if reply.value else None

    def reachable_dashboard(self) -> str:
        """The dashboard's URL, if this machine can open it.

        Raises:
            ClusterError: There is no dashboard, or it is on the loopback of another machine.
        """
        url = self.dashboard_url()
        if url is None:
            raise ClusterError(f"Ray at {self.address} runs without a dashboard")
        dashboard_host, _ = split_address(url.removeprefix("http://"))
        head_host, _ = split_address(self.address)
        if is_loopback(dashboard_host) and not is_this_machine(head_host):
            raise ClusterError(
                f"the dashboard of {self.address} listens on the head's loopback only: open a way "
                f"with `ssh -N -L 8265:{url.removeprefix('http://')} {head_host}` and set "
                "RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265"
            )
        return url

    def nodes(self) -> tuple[Node, ...]:
        """Every machine of the cluster, dead ones too, with what is in use on it."""
        call = "autoscaler.AutoscalerStateService.GetClusterStatus"
        reply = _ask(self.address, call, token=self.token)
        return tuple(_node(state) for state in reply.cluster_resource_state.node_states)

    def holders(self, resource: str) -> tuple[Holder, ...]:
        """Who keeps so much of a resource of Ray's, such as CPU, the largest holder first."""
        used = sum(node.used.get(resource, 0.0) for node in self.nodes() if node.alive)
        return share_out(resource, used, **{name: self._rows(name) for name in _TABLES})

    def abandoned_groups(self, job_id: str) -> tuple[str, ...]:
        """The ids of the placement groups of a job that nobody has removed, and whose actors that
        made them are dead."""
        tables = import_module("ray.core.generated.gcs_pb2")
        dead = {
            actor.actor_id
            for actor in self._rows("actors")
            if actor.state == tables.ActorTableData.DEAD
        }
        return tuple(
            group.placement_group_id.hex()
            for group in self._rows("groups")
            if group.creator_job_id.hex() == job_id
            and group.creator_actor_id in dead
            and group.state != tables.PlacementGroupTableData.REMOVED
        )

    def _rows(self, table: str) -> Any:
        call, field = _TABLES[table]
        return getattr(_ask(self.address, f"gcs_service.{call}", token=self.token), field)


def find_head(address: str) -> Head:
    """The head at HOST:PORT, ready to be joined with the token this process finds.

    Raises:
        ClusterError: Nothing listens there, it is no Ray head, the token is missing or wrong, or
            it runs another Ray; the message names the way out.
    """
    _check_listening(address)
    answer = _alive(address, token=None)
    token = None
    if answer is None:
        token = find_token()
        if token is None:
            raise ClusterError(
                f"Ray at {address} asks for a token and there is none in RAY_AUTH_TOKEN or "
                f"{token_path()}: copy that file from the head, with mode 0600"
            )
        answer = _alive(address, token=token)
    if answer is None:
        raise ClusterError(
            f"Ray at {address} refuses the token in RAY_AUTH_TOKEN or {token_path()}: "
            "copy the token file from the head, with mode 0600"
        )
    if answer.ray_version != version("ray"):
        raise ClusterError(
            f"the head at {address} runs Ray {answer.ray_version}, this process "
            f"{version('ray')}: install ray=={answer.ray_version} here"
        )
    return Head(address=address, ray_version=answer.ray_version, token=token)


def _check_listening(address: str) -> None:
    try:
        socket.create_connection(split_address(address), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterError(
            f"nothing answers at {address} ({error}): start Ray with `raymlops up`, "
            "or correct the address"
        ) from error


def _alive(address: str, *, token: str | None) -> Any:
    """The head's reply, or None where it wants another token."""
    import grpc

    try:
        return _ask(address, "gcs_service.NodeInfoGcsService.CheckAlive", token=token)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return None
        raise ClusterError(
            f"something listens at {address}, but it is no Ray head ({error.code().name}): the "
            "port is the one `ray start --head --port` was given, not the dashboard's"
        ) from error


def _ask(address: str, call: str, *, token: str | None, **fields: object) -> Any:
    """The reply to `call`, PROTO.SERVICE.METHOD of Ray's own protocol."""
    import grpc

    proto, service, method = call.split(".")
    request = getattr(import_module(f"ray.core.generated.{proto}_pb2"), f"{method}Request")
    stub = getattr(import_module(f"ray.core.generated.{proto}_pb2_grpc"), f"{service}Stub")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    direct = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=direct) as channel:
        ask = getattr(stub(channel), method)
        return ask(request(**fields), timeout=_TIMEOUT_S, metadata=metadata)


def _node(state: Any) -> Node:
    statuses = import_module("ray.core.generated.autoscaler_pb2").NodeStatus
    total = dict(state.total_resources)
    free = dict(state.available_resources)
    return Node(
        node_id=state.node_id.hex(),
        host=state.node_ip_address,
        alive=statuses.Name(state.status) != "DEAD",
        used={name: amount - free.get(name, 0.0) for name, amount in total.items()},
        total=total,
    )
