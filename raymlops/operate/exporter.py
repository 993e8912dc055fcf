"""Starts what Prometheus scrapes, and tells where that is."""

from __future__ import annotations

import json
from pathlib import Path

from raymlops.cluster import code_digest, renew
from raymlops.monitor.metrics import Exporter
from raymlops.monitor.metrics.exporter import targets_file
from raymlops.operate.workspace import Workspace

EXPORTER_NAME = "raymlops-exporter"


def start_exporter(workspace: Workspace) -> None:
    """The exporter of this home, an actor on this node, started unless it runs.

    One that runs is replaced where `monitor.exporter`, or `monitor.drift`, whose thresholds it
    tells, is set and is another, and where it is that of an earlier raymlops. Ray must be
    connected.
    """
    import ray

    settings, configured = workspace.settings.monitor, workspace.configured
    sections = {"monitor.exporter": "settings", "monitor.drift": "drift"}
    renew(
        Exporter,
        EXPORTER_NAME,
        {
            "code": code_digest(),
            "ledger_url": workspace.ledger.url,  # opened here, since an actor makes no SQLite file
            "settings": settings.exporter,
            "home": workspace.home,
            "drift": settings.drift,
        },
        follow=[
            "code",
            *(name for section, name in sections.items() if configured.is_set(section)),
        ],
        within=["ledger_url", "home"],
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
