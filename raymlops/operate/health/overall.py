"""All of it together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from raymlops import cluster
from raymlops.cluster import ClusterStatus
from raymlops.ledger import Decision
from raymlops.monitor.alerts import AlertBook
from raymlops.operate.health.models import Health, ModelHealth, models_of
from raymlops.operate.health.problems import problems_of
from raymlops.operate.health.watchers import MonitorHealth, monitor_of
from raymlops.operate.workspace import Workspace

_NUM_DECISIONS = 8


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything; `health` is that of the worst part."""

    health: Health
    cluster: ClusterStatus
    models: tuple[ModelHealth, ...]
    monitor: MonitorHealth
    decisions: tuple[Decision, ...]
    problems: tuple[str, ...] = field(default=())


def status(workspace: Workspace) -> Status:
    """How everything is, within a few seconds whatever is away."""
    found = cluster.status(workspace.home)
    book = AlertBook(workspace.home).read()
    monitor = monitor_of(workspace.home, book)
    models = models_of(workspace, book, found)
    problems = tuple(problems_of(workspace, found, monitor, models, book, now=time.time()))
    worst: Health = "ok"
    if problems or any(each.health == "attention" for each in models):
        worst = "attention"
    if found.problem is not None or any(each.severity == "critical" for each in book.episodes):
        worst = "broken"
    return Status(
        health=worst,
        cluster=found,
        models=models,
        monitor=monitor,
        decisions=tuple(workspace.ledger.overview.last_decisions(limit=_NUM_DECISIONS)),
        problems=problems,
    )
