"""What runs on the cluster of this home."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from raymlops.cluster.head import Head, Node, find_head
from raymlops.cluster.lifecycle import recorded_cluster
from raymlops.errors import ClusterError

_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Application:
    """A Ray Serve application and its status in Ray's words, such as RUNNING.

    It was deployed last at so many seconds since 1970; Ray's `message` says why it is like that.
    """

    name: str
    status: str
    route: str | None
    deployed_at: float = 0.0
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class ClusterStatus:
    """A cluster as it is now; `problem` says why a recorded one cannot be asked in full."""

    running: bool
    address: str | None = None
    dashboard_url: str | None = None
    nodes: tuple[Node, ...] = ()
    applications: tuple[Application, ...] = ()
    problem: str | None = None


def status(home: Path) -> ClusterStatus:
    """The state of the cluster `up` recorded under `home`, asked without joining it."""
    recorded = recorded_cluster(home)
    if recorded is None:
        return ClusterStatus(running=False)
    address = recorded.address
    if recorded.stale:
        ended = f"its process has ended; {home / 'cluster.log'} may say why"
        return ClusterStatus(running=False, address=address, problem=ended)
    try:
        head = find_head(address)
    except ClusterError as error:
        return ClusterStatus(running=False, address=address, problem=str(error))
    applications: tuple[Application, ...] = ()
    problem: str | None = None
    try:
        applications = _applications(head)
    except ClusterError as error:
        problem = f"applications are not shown: {error}"
    return ClusterStatus(
        running=True,
        address=address,
        dashboard_url=recorded.dashboard_url,
        nodes=head.nodes(),
        applications=applications,
        problem=problem,
    )


def _applications(head: Head) -> tuple[Application, ...]:
    headers = {"Authorization": f"Bearer {head.token}"} if head.token else {}
    url = f"{head.reachable_dashboard()}/api/serve/applications/"
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:
            applications = json.load(reply)["applications"]
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise ClusterError(f"the dashboard at {url} does not answer: {error}") from error
    return tuple(
        Application(
            name=name,
            status=fields["status"],
            route=fields["route_prefix"],
            deployed_at=fields["last_deployed_time_s"],
            message=fields["message"],
        )
        for name, fields in applications.items()
    )
