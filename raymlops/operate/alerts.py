"""Alerts of a home: an actor that watches, and what a person may ask of it."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from raymlops.cluster import renew
from raymlops.config import redact
from raymlops.errors import ClusterError, NotFoundError
from raymlops.ledger import Decision
from raymlops.monitor.alerts import (
    Alert,
    AlertBook,
    AlertSettings,
    DeliveryError,
    Sentinel,
    Signal,
    Silence,
    Sink,
    deliver,
    open_sinks,
)
from raymlops.monitor.alerts.signals import REPLICA
from raymlops.operate.settings import Settings
from raymlops.operate.site import site_of, workspace_at
from raymlops.operate.workspace import Workspace
from raymlops.serve import ServeSettings, application_name, pool_name
from raymlops.telemetry.logs import LineWriter, LogPolicy

SENTINEL_NAME = "raymlops-sentinel"
_NICENESS = 5
_LONGEST_REST_S = 30.0
_MODEL_PREFIX, _POOL_PREFIX = application_name(""), pool_name("")
_OURS = (_MODEL_PREFIX, _POOL_PREFIX)
_LOST = ("UNHEALTHY", "DEPLOY_FAILED")

_logger = logging.getLogger(__name__)


def start_sentinel(workspace: Workspace) -> None:
    """The actor that writes the log of decisions and tells of alerts, started unless it runs.

    One that runs is replaced where anything is set of `alerts`, or of the files of `serve.log`,
    and they are others. Ray must be connected.
    """
    open_sentinel(workspace).begin()
    log = workspace.settings.serve.log
    files = LogPolicy(
        max_file_mb=log.max_file_mb, num_files=log.num_files, max_waiting=log.max_waiting
    )
    made_from = {"site": site_of(workspace), "alerts": workspace.settings.alerts, "log": files}
    sections = {"alerts": "alerts", "serve.log": "log"}
    follow = [name for section, name in sections.items() if workspace.configured.is_set(section)]
    renew(SentinelActor, SENTINEL_NAME, made_from, follow=follow, within=["site"])


class SentinelActor:
    """A thread that looks again and again, for as long as the process lives."""

    def __init__(self, site: Settings, alerts: AlertSettings, log: LogPolicy) -> None:
        os.nice(_NICENESS)
        self._made_from = {"site": site, "alerts": alerts, "log": log}
        self._ended = Event()
        workspace = workspace_at(replace(site, alerts=alerts, serve=ServeSettings(log=log)))
        # Begun here because of a restarted actor only this is called again.
        self._thread = Thread(target=self._watch, args=(workspace,), daemon=True)
        self._thread.start()

    def made_from(self) -> Mapping[str, object]:
        return self._made_from

    def close(self) -> None:
        """Returns once the look that is under way is over and what it logged is written."""
        self._ended.set()
        self._thread.join()

    def _watch(self, workspace: Workspace) -> None:
        lines = decision_log(workspace)
        lines.start()
        rest_s = workspace.settings.alerts.every_s
        while not self._ended.is_set():
            try:
                with workspace:
                    sentinel = open_sentinel(workspace, lines)
                    while not self._ended.wait(rest_s):
                        sentinel.look(datetime.now(UTC))
            except Exception:  # the boundary of the process: nobody else would hear of it
                _logger.exception("the sentinel broke off, and starts again")
                self._ended.wait(max(rest_s, _LONGEST_REST_S))
        lines.close()


def open_sentinel(workspace: Workspace, lines: LineWriter | None = None) -> Sentinel:
    """What looks at this workspace; with `lines` it logs each decision there."""

    def log(decision: Decision) -> None:
        if lines is not None:
            lines.put({"kind": "decision", **vars(decision), "decision": decision.kind})

    return Sentinel(
        workspace.ledger,
        AlertBook(workspace.home),
        workspace.settings.alerts,
        open_sinks(workspace.settings.alerts),
        watch=LostReplicas(serve_statuses, losses).look,
        log=log,
    )


def decision_log(workspace: Workspace) -> LineWriter:
    """The file of this home that has a line a decision; it rotates as the request log does."""
    policy = workspace.settings.serve.log
    return LineWriter(
        workspace.home / "logs" / "decisions.jsonl",
        max_file_bytes=policy.max_file_mb << 20,
        num_files=policy.num_files,
        max_waiting=policy.max_waiting,
    )


def serve_statuses() -> dict[str, str]:
    """The status of each of Serve's applications, in its own words; none where no Ray is.

    Raises:
        ClusterError: Serve's controller does not answer.
    """
    ray = sys.modules.get("ray")  # its import takes a second, and Serve's more
    if ray is None or not ray.is_initialized():
        return {}
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        applications = serve.status().applications
    except (RayError, RayServeException) as error:
        raise ClusterError(f"Serve's controller does not answer: {error}") from error
    return {name: each.status.value for name, each in applications.items()}


def losses() -> Counter[str]:
    """By model, how many replicas the doors have seen die; none where no Ray is.

    Raises:
        ClusterError: a door does not answer.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return Counter()
    from raymlops.serve import standing

    return sum((Counter(door["lost"]) for door in standing()), Counter())


class LostReplicas:
    """What became of the replicas since the last look.

    Serve says which applications have none; one that died and was replaced in between is in the
    count of a door alone. A look without another loss ends the episode. While Serve says nothing,
    nothing is told; what is lost meanwhile is told of afterwards.
    """

    def __init__(
        self,
        read_statuses: Callable[[], Mapping[str, str]],
        read_losses: Callable[[], Mapping[str, int]],
    ) -> None:
        self._read_statuses = read_statuses
        self._read_losses = read_losses
        self._before: Counter[str] | None = None

    def look(self) -> tuple[Signal, ...]:
        try:
            statuses = self._read_statuses()
        except ClusterError as error:
            _logger.warning("nobody says which replicas are lost: %s", error)
            return ()
        died = self._died()
        told: dict[str, str | None] = {
            _subject(name): status for name, status in statuses.items() if name.startswith(_OURS)
        }
        # The models of a pool have no application of their own; doors count what each lost.
        told |= {model: None for model in self._before or () if model not in told}
        return tuple(
            _signal(subject, status, died[subject])
            for subject, status in told.items()
            if status in (*_LOST, "RUNNING", None)
        )

    def _died(self) -> Counter[str]:
        """Replicas lost since the last look; none at the first, which only learns the count."""
        try:
            now = Counter(self._read_losses())
        except ClusterError as error:
            _logger.warning("no door says which replicas were lost: %s", error)
            return Counter()
        before, self._before = now if self._before is None else self._before, now
        return now - before  # of a door that was started again, and counts anew, none


def _subject(application: str) -> str:
    """Whose it is: a model, or a pool, which no model can be called like."""
    if application.startswith(_POOL_PREFIX):
        return f"pool {application.removeprefix(_POOL_PREFIX)}"
    return application.removeprefix(_MODEL_PREFIX)


def _signal(model: str, status: str | None, number: int) -> Signal:
    if status in _LOST:
        summary = f"replicas of {model} are lost: Serve says {status}"
    else:
        summary = f"{number} replicas of {model} died and were replaced"
    return Signal(
        name=REPLICA,
        model=model,
        firing=status in _LOST or number > 0,
        severity="critical" if status in _LOST else "warning",
        summary=summary,
        evidence={"status": status, "died": number},
    )


def silence(
    workspace: Workspace, *, model: str, name: str, length: timedelta, who: str, why: str
) -> Silence:
    """Has nobody told of what `model` and `name` fit, from now on for so long."""
    now = datetime.now(UTC)
    made = Silence(
        id=secrets.token_hex(4),
        model=model,
        name=name,
        starts_at=now,
        ends_at=now + length,
        who=who,
        why=why,
    )
    with AlertBook(workspace.home).open() as book:
        book.silences = (*book.silences, made)
    return made


def end_silences(workspace: Workspace, ids: Iterable[str]) -> int:
    """Ends silences before their time; how many there were.

    Raises:
        NotFoundError: one is not there, and none was ended.
    """
    wanted = set(ids)
    with AlertBook(workspace.home).open() as book:
        known = {each.id for each in book.silences}
        if unknown := wanted - known:
            raise NotFoundError(
                f"there is no silence '{min(unknown)}', but {', '.join(sorted(known)) or 'none'}"
            )
        kept = tuple(each for each in book.silences if each.id not in wanted)
        ended = len(book.silences) - len(kept)
        book.silences = kept
    return ended


def trial(workspace: Workspace) -> dict[str, str | None]:
    """Sends an alert to every sink, and its end; by sink what went wrong, None where nothing."""
    now = datetime.now(UTC)
    alert = Alert(
        id=f"test-{secrets.token_hex(4)}",
        fingerprint="test",
        status="firing",
        severity="info",
        name="test",
        model="none",
        summary="This is a test of raymlops' alerts; nothing is wrong.",
        evidence={},
        started_at=now,
        ended_at=None,
    )
    over = replace(alert, status="resolved", ended_at=now + timedelta(seconds=1))
    return {
        sink.name: _problem(sink, (alert, over)) for sink in open_sinks(workspace.settings.alerts)
    }


def _problem(sink: Sink, alerts: Iterable[Alert]) -> str | None:
    try:
        for alert in alerts:
            deliver(sink, alert)
    except DeliveryError as error:
        return redact(error.message)
    return None
