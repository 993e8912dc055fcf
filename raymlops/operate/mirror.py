"""The MLflow mirror of a workspace: once, or all the time beside whatever runs.

All the time means an actor, a process of its own: MLflow's imports and its database take seconds
of a CPU now and then, which a thread of the driver would take from the training it reports on.
It runs at a lower priority, is restarted when it dies, and goes on from its marks.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event, Thread

from raymlops.cluster import code_digest, dismiss, renew
from raymlops.config import SecretUrl
from raymlops.errors import ClusterError, ConfigError
from raymlops.ledger import absolute_url
from raymlops.ledger.mirror import Copied, Mirror, follow
from raymlops.operate.settings import MlflowSettings, Settings
from raymlops.operate.site import site_of, workspace_at
from raymlops.operate.workspace import Workspace

MIRROR_NAME = "raymlops-mirror"
_LOCK = "mirror"
_LOCK_TIMEOUT_S = 10.0
_NICENESS = 10

_logger = logging.getLogger(__name__)


def mirror(workspace: Workspace, *, again: bool = False) -> Copied:
    """Copies to MLflow what the ledger holds and MLflow does not.

    With `again` the mirror forgets first what it copied, and goes through everything.

    Raises:
        ConfigError: the settings name no MLflow store.
        CoordinationError: another process is copying, and did not come to an end.
        MirrorError: MLflow cannot be reached.
    """
    with open_mirror(workspace) as opened:
        if again:
            with workspace.coordinator.hold(_LOCK, timeout_s=_LOCK_TIMEOUT_S):
                opened.forget()
        return _one_at_a_time(workspace, opened)()


def follow_ledger(
    workspace: Workspace, ended: Event, *, copied: Callable[[Copied], None] = lambda _: None
) -> None:
    """Keeps the mirror up to date until `ended` is set; `copied` is told of every look."""
    with open_mirror(workspace) as opened:
        catch_up = _one_at_a_time(workspace, opened)
        follow(catch_up, workspace.settings.ledger.mlflow.follow, ended, copied=copied)


def start_mirror(workspace: Workspace) -> None:
    """Starts the mirror's actor on the connected Ray, unless it runs or none is wanted.

    One that runs is replaced where the settings name another MLflow, and ends where they say that
    there is none. What keeps it from running is logged, for nothing else depends on it.
    """
    settings = workspace.settings.ledger.mlflow
    if settings.url is None:
        if workspace.configured.is_set("ledger.mlflow.url"):
            dismiss(MIRROR_NAME, {"site": site_of(workspace)})
        return
    if importlib.util.find_spec("mlflow") is None:
        _logger.warning("the ledger is not mirrored: `pip install raymlops[mlflow]`")
        return
    mlflow = replace(settings, url=SecretUrl(absolute_url(settings.url.reveal())))
    made_from = {"code": code_digest(), "site": site_of(workspace), "mlflow": mlflow}
    try:
        renew(MirrorActor, MIRROR_NAME, made_from, follow=["code", "mlflow"], within=["site"])
    except ClusterError as error:
        _logger.warning("the ledger is not mirrored as it was to be: %s", error)


class MirrorActor:
    """A thread that follows the ledger, for as long as the process lives."""

    def __init__(self, code: str, site: Settings, mlflow: MlflowSettings) -> None:
        os.nice(_NICENESS)
        self._made_from = {"code": code, "site": site, "mlflow": mlflow}
        workspace = workspace_at(replace(site, ledger=replace(site.ledger, mlflow=mlflow)))
        # Begun here because of a restarted actor only this is called again.
        Thread(target=self._follow, args=(workspace,), daemon=True).start()

    def made_from(self) -> Mapping[str, object]:
        return self._made_from

    def _follow(self, workspace: Workspace) -> None:
        never = Event()
        while True:
            try:
                with workspace:
                    follow_ledger(workspace, never)
            except Exception:  # the boundary of the process: nobody else would hear of it
                _logger.exception("the mirror broke off, and starts again")
                never.wait(workspace.settings.ledger.mlflow.follow.longest_s)


def open_mirror(workspace: Workspace) -> Mirror:
    """Raises ConfigError when the settings name no MLflow store."""
    settings = workspace.settings.ledger.mlflow
    if settings.url is None:
        raise ConfigError(
            "ledger.mlflow.url is not set, so there is nothing to mirror to; for a file: "
            "--set ledger.mlflow.url=sqlite:///mlflow.db"
        )
    url = settings.url.reveal()
    artifacts = settings.artifacts.reveal() if settings.artifacts is not None else None
    if artifacts is None and not url.startswith("http"):
        artifacts = str(workspace.home / "mlflow")
    return Mirror(
        workspace.ledger,
        workspace.store,
        url,
        artifacts=artifacts,
        max_file_bytes=settings.max_file_mb << 20,
    )


def _one_at_a_time(workspace: Workspace, opened: Mirror) -> Callable[[], Copied]:
    """Two that copy at once would both make a run that neither finds."""

    def catch_up() -> Copied:
        with workspace.coordinator.hold(_LOCK, timeout_s=_LOCK_TIMEOUT_S):
            return opened.catch_up()

    return catch_up
