"""The actor that looks after a home: it logs decisions and tells of alerts."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event, Thread

from raymlops.cluster import code_digest, renew
from raymlops.ledger import Decision
from raymlops.monitor.alerts import AlertBook, AlertSettings, Sentinel, open_sinks
from raymlops.operate.certificates import Certificates, doors
from raymlops.operate.lost_replicas import LostReplicas, losses, serve_statuses
from raymlops.operate.low_disk import LowDisk
from raymlops.operate.settings import Settings
from raymlops.operate.site import site_of, workspace_at
from raymlops.operate.workspace import Workspace
from raymlops.serve import ServeSettings
from raymlops.telemetry.logs import LineWriter, LogPolicy

SENTINEL_NAME = "raymlops-sentinel"
_NICENESS = 5
_LONGEST_REST_S = 30.0

_logger = logging.getLogger(__name__)


def start_sentinel(workspace: Workspace) -> None:
    """The actor that writes the log of decisions and tells of alerts, started unless it runs.

    One that runs is replaced where anything is set of `alerts`, or of the files of `serve.log`,
    and they are others, and where it is that of an earlier raymlops. Ray must be connected.
    """
    open_sentinel(workspace).begin()
    log = workspace.settings.serve.log
    files = LogPolicy(
        max_file_mb=log.max_file_mb, num_files=log.num_files, max_waiting=log.max_waiting
    )
    made_from = {
        "code": code_digest(),
        "site": site_of(workspace),
        "alerts": workspace.settings.alerts,
        "log": files,
    }
    sections = {"alerts": "alerts", "serve.log": "log"}
    follow = [name for section, name in sections.items() if workspace.configured.is_set(section)]
    renew(SentinelActor, SENTINEL_NAME, made_from, follow=["code", *follow], within=["site"])


class SentinelActor:
    """A thread that looks again and again, for as long as the process lives."""

    def __init__(self, code: str, site: Settings, alerts: AlertSettings, log: LogPolicy) -> None:
        os.nice(_NICENESS)
        self._made_from = {"code": code, "site": site, "alerts": alerts, "log": log}
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
            lines.put({**vars(decision), "kind": "decision", "decision": decision.kind})

    lost, low = LostReplicas(serve_statuses, losses), LowDisk(workspace.home)
    certificates = Certificates(doors)
    return Sentinel(
        workspace.ledger,
        AlertBook(workspace.home, holds_on=True),
        workspace.settings.alerts,
        open_sinks(workspace.settings.alerts),
        watch=lambda: (*lost.look(), *low.look(), *certificates.look()),
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
