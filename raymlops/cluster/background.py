"""A Ray node in the background, ended by what was recorded when it started.

`ray stop` ends every Ray of the machine, other people's too; `stop_node` ends one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raymlops.cluster.address import free_port, is_loopback
from raymlops.cluster.auth import ensure_token, token_auth_wanted
from raymlops.cluster.environment import ray_variables
from raymlops.cluster.files import tail
from raymlops.cluster.head import find_head
from raymlops.cluster.process import SessionLeader
from raymlops.cluster.starting import StartingNode, read_answered
from raymlops.errors import ClusterError

_DASHBOARD_PORT = 8265
_START_TIMEOUT_S = 90.0
# Ray would drain a node for up to 30 s where Serve runs; what must outlive it is in the ledger.
_STOP_GRACE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """What `ray start` is told. Without `join` it starts a head; None leaves a choice to Ray."""

    join: str | None = None
    host: str | None = "127.0.0.1"
    port: int = 0
    dashboard_host: str = "127.0.0.1"
    num_cpus: int | None = None
    object_store_bytes: int | None = None

    @property
    def loopback(self) -> bool:
        """Whether nobody beyond this machine may reach the node."""
        return self.host is not None and is_loopback(self.host)


@dataclass(frozen=True, kw_only=True)
class NodeRecord:
    """A node that was started: its process, where to reach its head, and its files.

    `scratch` holds Ray's sockets and session logs, and goes when the node is stopped.
    """

    leader: SessionLeader
    address: str
    dashboard_url: str | None
    scratch: str
    log: str

    @property
    def running(self) -> bool:
        """Whether the recorded process, and no later one of the same pid, is alive."""
        return self.leader.process() is not None

    @property
    def metrics_targets(self) -> Path:
        """The file of a head in which Ray keeps the addresses of its metrics, for Prometheus."""
        return _temp_dir(Path(self.scratch)) / "prom_metrics_service_discovery.json"

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], *, source: str) -> NodeRecord:
        """The record that `source` keeps as `fields`."""
        leader = SessionLeader.from_fields(fields["leader"], source=source)
        return cls(**{**fields, "leader": leader})

    def to_json(self) -> str:
        """The record as one JSON object."""
        return json.dumps(asdict(self), indent=2)


def ray_start_command(
    plan: NodePlan, *, scratch: Path, dashboard_port: int, client_port: int
) -> list[str]:
    """The `ray start` line of `plan`, every port its own so that nodes share a machine."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    command += ["--disable-usage-stats", "--log-color=false", "--dashboard-agent-listen-port=0"]
    if plan.host is not None:
        command.append(f"--node-ip-address={plan.host}")
    if plan.num_cpus is not None:
        command.append(f"--num-cpus={plan.num_cpus}")
    if plan.object_store_bytes is not None:
        command.append(f"--object-store-memory={plan.object_store_bytes}")
    if plan.loopback:
        # Ray numbers workers from 10002 up, and so would a second head on this machine.
        command += ["--min-worker-port=0", "--max-worker-port=0"]
    if plan.join is not None:
        # A worker not told where takes the head's folder, though it is on another machine.
        return [*command, f"--address={plan.join}", f"--temp-dir={_temp_dir(scratch)}"]
    command += ["--head", f"--port={plan.port}", f"--ray-client-server-port={client_port}"]
    return [
        *command,
        f"--dashboard-host={plan.dashboard_host}",
        f"--dashboard-port={dashboard_port}",
    ]


def start_node(plan: NodePlan, *, log: Path, path: Path) -> NodeRecord:
    """A node that outlives this process, started and answering.

    From its first moment it is on record at `path`, as one that starts. The caller, who holds the
    lock of `path`, replaces that by what is returned.

    Raises:
        ClusterError: Ray ended, or did not answer in time; the message ends with its log.
    """
    token_auth = token_auth_wanted()
    if token_auth:
        ensure_token()
    scratch = Path(tempfile.mkdtemp(prefix="raymlops-", dir="/tmp"))  # socket paths: 107 bytes
    with _dashboard_port(plan.dashboard_host) as port:
        leader = _spawn(plan, token_auth=token_auth, scratch=scratch, log=log, dashboard_port=port)
        starting = StartingNode(leader=leader, scratch=str(scratch))
        try:
            starting.write(path)
            address = _wait_for_address(leader, scratch=scratch, log=log)
            dashboard_url = find_head(address).dashboard_url()
        except BaseException:
            starting.end()
            path.unlink(missing_ok=True)
            raise
    return NodeRecord(
        leader=leader,
        address=address,
        dashboard_url=dashboard_url,
        scratch=str(scratch),
        log=str(log),
    )


def stop_node(record: NodeRecord) -> None:
    """End the recorded node and all it started, on this machine; nothing if it has ended."""
    record.leader.end(grace_s=_STOP_GRACE_S)
    shutil.rmtree(record.scratch, ignore_errors=True)


def read_node(path: Path) -> NodeRecord | None:
    """The record at `path` of a node that answered, or None."""
    fields = read_answered(path)
    return None if fields is None else NodeRecord.from_fields(fields, source=str(path))


@contextlib.contextmanager
def _dashboard_port(host: str) -> Iterator[int]:
    """Ray's usual port, unless it is taken, or is about to be by a node that starts meanwhile: a
    dashboard binds it seconds after it was chosen, and `ray start` goes on without one."""
    with open(f"/tmp/raymlops-dashboard-{os.getuid()}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield free_port(host)
        else:
            yield free_port(host, preferred=_DASHBOARD_PORT)


def _spawn(
    plan: NodePlan, *, token_auth: bool, scratch: Path, log: Path, dashboard_port: int
) -> SessionLeader:
    command = ray_start_command(
        plan,
        scratch=scratch,
        dashboard_port=dashboard_port,
        client_port=free_port("127.0.0.1"),
    )
    binaries = os.path.dirname(sys.executable)
    variables = {
        **os.environ,
        **ray_variables(token_auth=token_auth, loopback=plan.loopback),
        # --temp-dir would not do: Ray's job supervisor looks for its cluster in the folder this
        # variable names, and takes any head it finds on the machine where that is the common one.
        "RAY_TMPDIR": str(scratch),
        # A job's `python` is the one that runs the cluster.
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    variables.pop("RAY_ADDRESS", None)
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        command,
        variables,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return SessionLeader.of(pid)


def _temp_dir(scratch: Path) -> Path:
    """Where Ray keeps its files when RAY_TMPDIR is `scratch`."""
    return scratch / "ray"


def _wait_for_address(leader: SessionLeader, *, scratch: Path, log: Path) -> str:
    # Ray writes this file once the node is up, in two steps: an empty one comes first.
    announced = _temp_dir(scratch) / "ray_current_cluster"
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(FileNotFoundError):
            if address := announced.read_text().strip():
                return address
        if leader.process() is None:
            raise ClusterError(f"`ray start` ended at once; {log} ends with:\n{tail(log)}")
        time.sleep(0.05)
    raise ClusterError(f"Ray was not up after {_START_TIMEOUT_S:.0f} s; {log} ends:\n{tail(log)}")
