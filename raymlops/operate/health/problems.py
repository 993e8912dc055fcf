"""What is wrong with a home, each in a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from raymlops.cluster import ClusterStatus
from raymlops.cluster.status import Application
from raymlops.errors import CoordinationError
from raymlops.ledger.holders import writer_of
from raymlops.monitor.alerts import Book
from raymlops.operate.health.models import ModelHealth
from raymlops.operate.health.watchers import MonitorHealth
from raymlops.operate.low_disk import refusal_of, room_of
from raymlops.operate.operator import lock_name
from raymlops.operate.workspace import Workspace
from raymlops.serve import application_name, pool_name

_DEPLOYING_MINUTES = 5
"""After so long somebody should look: where there is no room, Ray Serve waits for ever."""


def problems_of(
    workspace: Workspace,
    found: ClusterStatus,
    monitor: MonitorHealth,
    models: Sequence[ModelHealth],
    book: Book,
    *,
    now: float,
) -> Iterator[str]:
    """At `now`, in seconds since 1970."""
    if found.problem is not None:
        yield found.problem
    yield from _undeployed(found, now)
    yield from _alarming(book, models)
    yield from _untold(found, monitor)
    yield from _unanswered(models)
    yield from _unwatched(workspace, models)
    yield from _unwritten(workspace)


def _undeployed(found: ClusterStatus, now: float) -> Iterator[str]:
    for app in found.applications:
        if (problem := _problem(app, now)) is not None:
            yield f"application {app.name} {problem}"


def _problem(app: Application, now: float) -> str | None:
    minutes = (now - app.deployed_at) / 60
    if app.status == "RUNNING" or (app.status == "DEPLOYING" and minutes < _DEPLOYING_MINUTES):
        return None
    since = f" for {minutes:.0f} minutes" if app.status == "DEPLOYING" else ""
    why, *_ = app.message.splitlines() or [""]
    return f"is {app.status}{since}" + (f": {why}" if why else "")


def _alarming(book: Book, models: Iterable[ModelHealth]) -> Iterator[str]:
    """Alerts of what is no model: of pools, doors, the disk."""
    told = {each.model for each in models}
    for each in book.episodes:
        if each.model not in told:
            yield f"{each.severity} {each.name} of {each.model}: {each.summary}"


def _untold(found: ClusterStatus, monitor: MonitorHealth) -> Iterator[str]:
    """What nobody hears of."""
    ours = (application_name(""), pool_name(""))
    served = any(app.name.startswith(ours) for app in found.applications)
    if served and monitor.exporter is None:
        yield "models are served and the exporter does not answer: nobody scrapes their metrics"
    if monitor.num_dead:
        yield f"{monitor.num_dead} alerts were not delivered: `raymlops alerts list`, `resend`"


def _unanswered(models: Iterable[ModelHealth]) -> Iterator[str]:
    """Models that are not answered as alias and releases say, or could not be."""
    for each in models:
        if each.problem is not None:
            yield each.problem
        if each.num_versions and each.champion is None:
            yield f"{each.model} has versions and no champion: `raymlops promote`"


def _unwatched(workspace: Workspace, models: Iterable[ModelHealth]) -> Iterator[str]:
    """Releases that nobody carries on: they stand where they are until somebody does."""
    for each in models:
        if each.release is None:
            continue
        release = f"release {each.release} of {each.model}"
        try:
            holder = workspace.coordinator.lock(lock_name(each.model)).holder()
        except CoordinationError as error:
            yield f"whether somebody carries on {release} cannot be told: {error}"
        else:
            if holder is None:
                yield f"{release} runs, and no `raymlops watch` that takes its next step"


def _unwritten(workspace: Workspace) -> Iterator[str]:
    """That nobody can write, which readers do not notice."""
    if workspace.home.exists():
        room = room_of(workspace.home)
        if (refusal := refusal_of(room)) is not None:
            lost = "nothing can be written: " if room.full else ""
            yield f"{lost}the disk of {workspace.home} {refusal}"
    writer = writer_of(workspace.ledger_url)
    if writer is not None and writer.is_stopped:
        yield f"nothing can be written to the ledger: that is kept by {writer}"
