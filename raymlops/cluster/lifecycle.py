"""Start a cluster that outlives its starter, and end exactly that one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from raymlops.cluster.background import NodePlan, NodeRecord, start_node, stop_node
from raymlops.cluster.cluster_file import read_machines
from raymlops.cluster.files import locked, replace_text
from raymlops.cluster.machines import Machines
from raymlops.cluster.starting import end_unanswered, read_answered
from raymlops.errors import ClusterError


@dataclass(frozen=True, kw_only=True)
class ClusterRecord:
    """A cluster that was started from this home.

    `node` is the process on this machine; None where `home/cluster.yaml`, the file as it was
    then, names the machines.
    """

    address: str
    dashboard_url: str | None
    node: NodeRecord | None

    @property
    def stale(self) -> bool:
        """Whether its process has ended, as after a reboot."""
        return self.node is not None and not self.node.running


def recorded_cluster(home: Path) -> ClusterRecord | None:
    """The cluster that `up` recorded under `home`, running or not; None before it answered."""
    path = _record_path(home)
    fields = read_answered(path)
    if fields is None:
        return None
    node = fields["node"]
    return ClusterRecord(
        address=fields["address"],
        dashboard_url=fields["dashboard_url"],
        node=None if node is None else NodeRecord.from_fields(node, source=str(path)),
    )


def up(
    cluster_file: Path | None,
    *,
    home: Path,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
) -> ClusterRecord:
    """The cluster of this home, started unless it runs already.

    Without a file it is a head on this machine, on loopback only. With one, it is the machines
    the file names, those that run already left alone, and the sizes are set there. What an `up`
    that was killed left behind is ended first.

    Raises:
        ClusterError: Ray did not come up on some machine, the message ends with its log; or
            `home` cannot be written.
    """
    if cluster_file is not None and (num_cpus is not None or object_store_bytes is not None):
        raise ValueError(f"num_cpus and object_store_bytes are set in {cluster_file}, not here")
    plan = NodePlan(num_cpus=num_cpus, object_store_bytes=object_store_bytes)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / "cluster.lock"):
            return _up(cluster_file, plan, home=home)
    except OSError as error:
        raise ClusterError(
            f"no cluster can be started from {home}: {error}; give a home that can be written"
        ) from error


def down(home: Path) -> bool:
    """End the recorded cluster, also one whose `up` was killed; False where none was recorded."""
    if not home.is_dir():
        return False
    with locked(home / "cluster.lock"):
        unanswered = end_unanswered(_record_path(home))
        record, machines = recorded_cluster(home), _file_path(home)
        if record is None and not machines.exists():
            return unanswered
        if record is not None and record.node is not None:
            stop_node(record.node)
        if machines.exists():
            _stop_machines(machines, home=home)
        _record_path(home).unlink(missing_ok=True)
        return True


def _up(cluster_file: Path | None, plan: NodePlan, *, home: Path) -> ClusterRecord:
    end_unanswered(_record_path(home))
    recorded = recorded_cluster(home)
    if recorded is not None and recorded.node is not None:
        if not recorded.stale and cluster_file is None:
            return recorded
        if not recorded.stale:
            raise ClusterError(f"{recorded.address} runs already: `raymlops down` ends it")
        stop_node(recorded.node)
    if cluster_file is not None:
        return _up_machines(cluster_file, home=home)
    if _file_path(home).exists():
        raise ClusterError(f"{_file_path(home)} is up: join it, or `raymlops down` ends it")
    node = start_node(plan, log=home / "cluster.log", path=_record_path(home))
    record = ClusterRecord(address=node.address, dashboard_url=node.dashboard_url, node=node)
    replace_text(_record_path(home), _to_json(record))
    return record


def _up_machines(cluster_file: Path, *, home: Path) -> ClusterRecord:
    machines = _read_machines(cluster_file, home=home)
    kept = _file_path(home)
    if kept.exists() and (left := _read_machines(kept, home=home).hosts - machines.hosts):
        raise ClusterError(
            f"{', '.join(sorted(left))} would be left running: `raymlops down` ends the cluster "
            f"as {kept} describes it, then start the new one"
        )
    # File and record are kept before what they tell of is complete: `down` and `status` must know
    # the machines even where some did not start.
    replace_text(kept, cluster_file.read_text())
    node = machines.start_head()
    record = ClusterRecord(address=node.address, dashboard_url=node.dashboard_url, node=None)
    replace_text(_record_path(home), _to_json(record))
    machines.start_workers()
    return record


def _stop_machines(kept: Path, *, home: Path) -> None:
    machines = _read_machines(kept, home=home)
    try:
        machines.stop()
    except ClusterError as error:
        raise ClusterError(
            f"{error}\nThe other machines have ended. Try again, or delete {kept} to give these up"
        ) from error
    kept.unlink()


def _read_machines(cluster_file: Path, *, home: Path) -> Machines:
    return read_machines(cluster_file, known_hosts=home / "known_hosts")


def _to_json(record: ClusterRecord) -> str:
    node = None if record.node is None else json.loads(record.node.to_json())
    fields = {"address": record.address, "dashboard_url": record.dashboard_url, "node": node}
    return json.dumps(fields, indent=2)


def _record_path(home: Path) -> Path:
    return home / "cluster.json"


def _file_path(home: Path) -> Path:
    return home / "cluster.yaml"
