"""The machinery of a home: Ray, and beside it Prometheus where the settings ask for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raymlops import cluster
from raymlops.cluster import ClusterRecord
from raymlops.errors import ConfigError
from raymlops.monitor.metrics.exporter import targets_file
from raymlops.monitor.metrics.prometheus import (
    prometheus_program,
    start_prometheus,
    stop_prometheus,
)
from raymlops.operate.settings import packaged_config
from raymlops.operate.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """What `up` started, or found running."""

    cluster: ClusterRecord
    prometheus_url: str | None


def up(workspace: Workspace, cluster_file: Path | None = None) -> Machinery:
    """Ray on this machine, or on those of a file; and Prometheus, if `monitor.prometheus.enabled`.

    Raises:
        ClusterError: one of them did not come up.
        ConfigError: Prometheus is wanted and not installed, or wanted here for other machines.
    """
    settings = workspace.settings.monitor.prometheus
    if not settings.enabled:
        record = cluster.up(cluster_file, home=workspace.home)
        return Machinery(cluster=record, prometheus_url=None)
    prometheus_program()
    if cluster_file is not None:
        raise ConfigError(
            "monitor.prometheus.enabled is true, but Ray lists its targets on the head's disk: "
            f"start Prometheus there with {packaged_config('monitor/prometheus.yml')}"
        )
    record = cluster.up(None, home=workspace.home)
    assert record.node is not None, "a cluster without a file runs on this machine"
    started = start_prometheus(
        settings,
        home=workspace.home,
        template=packaged_config("monitor/prometheus.yml"),
        targets={"raymlops": targets_file(workspace.home), "ray": record.node.metrics_targets},
    )
    return Machinery(cluster=record, prometheus_url=started.url)


def down(workspace: Workspace) -> bool:
    """Ends what `up` started, and nothing else; False where that was nothing."""
    stopped = stop_prometheus(workspace.home)
    return cluster.down(workspace.home) or stopped
