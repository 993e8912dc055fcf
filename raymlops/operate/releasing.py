"""Which version answers: promotions, releases, and the way back from both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from raymlops import serve
from raymlops.errors import ReleaseError
from raymlops.ledger import AliasMove, ModelVersion, Release
from raymlops.operate.workspace import Workspace
from raymlops.release import ReleaseController
from raymlops.release.controller import Publish
from raymlops.serve import TrafficTable


def promote(
    workspace: Workspace,
    version: ModelVersion,
    *,
    who: str,
    why: str,
    evidence: Mapping[str, Any] | None = None,
) -> AliasMove:
    """Makes `version` the champion; traffic follows at the operator's next tick, or by `deploy`."""
    return workspace.ledger.registry.move(
        version.model,
        "champion",
        version.version,
        who=who,
        why=why,
        evidence=evidence or {},
        event_time=version.event_time,
    )


def rollback(workspace: Workspace, model: str, *, who: str, why: str) -> AliasMove:
    """Moves the champion alias back to the version it named before, and the traffic with it, at
    once: the replicas follow in about `serve.POLL_S` seconds.

    Raises:
        ReleaseError: the alias never named another version.
        ConflictError: somebody else has just moved it.
    """
    registry = workspace.ledger.registry
    current = registry.alias(model, "champion")
    moves = registry.moves(model, "champion")
    earlier = [move.version for move in moves if move.version != current]
    if not earlier:
        raise ReleaseError(f"{model} {current} is the only champion there ever was")
    return registry.move(
        model,
        "champion",
        earlier[-1],
        who=who,
        why=why,
        evidence={"from": str(current)},
        seen=current,
        traffic=TrafficTable.champion(model, str(earlier[-1])).to_dict(),
    )


def release(
    workspace: Workspace, version: ModelVersion, *, now: datetime, who: str, why: str
) -> Release:
    """Gives `version` its first share of a deployed model's traffic; an operator goes on from it.

    Raises:
        ConflictError: another release of this model is running.
    """
    controller = ReleaseController(
        workspace.ledger, workspace.settings.release, publisher(workspace)
    )
    return controller.start(version, now=now, who=who, why=why)


def end_release(workspace: Workspace, model: str, *, who: str, why: str) -> Release | None:
    """Rolls back the release of `model` that runs, if one does: traffic goes back to the champion,
    whom the replicas follow in about `serve.POLL_S` seconds.

    Raises:
        ConflictError: it has just ended.
    """
    releases = workspace.ledger.releases
    if (running := releases.running(model)) is None:
        return None
    champion = workspace.ledger.registry.alias(model, "champion")
    return releases.advance(
        running.id,
        running.state,
        "rolled_back",
        outcome="rolled back",
        who=who,
        why=why,
        traffic=TrafficTable.champion(model, str(champion)).to_dict(),
    )


def publisher(workspace: Workspace) -> Publish:
    """Makes all replicas follow a traffic table, and waits until they do."""

    def publish(table: TrafficTable) -> None:
        generation = serve.publish(table, ledger_url=workspace.ledger_url)
        serve.wait_applied(table.model, generation, ledger_url=workspace.ledger_url)

    return publish
