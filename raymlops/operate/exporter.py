"""Starts what Prometheus scrapes, and tells where that is."""

from __future__ import annotations

import json
from pathlib import Path

from raymlops.cluster import spawn
from raymlops.monitor.metrics import Exporter
from raymlops.monitor.metrics.exporter import targets_file
from raymlops.operate.workspace import Workspace

EXPORTER_NAME = "raymlops-exporter"


def start_exporter(workspace: Workspace) -> None:
    """The exporter of this home, an actor on this node, started unless it runs.

    Ray must be connected.
    """
    import ray

    spawn(
        Exporter,
        EXPORTER_NAME,
        workspace.ledger.url,  # opened here, since an actor makes no SQLite file
        workspace.settings.monitor.exporter,
        workspace.home,
        workspace.settings.monitor.drift,
        max_concurrency=4,
        node_id=ray.get_runtime_context().get_node_id(),
    )


def exporter_address(home: Path) -> str | None:
    """HOST:PORT of the exporter that was started last from this home, None before the first."""
    try:
        groups = json.loads(targets_file(home).read_text())
    except FileNotFoundError:
        return None
    address: str = groups[0]["targets"][0]
    return address
