"""Which version answers: promotions, releases, and the way back from both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from raymlops import serve
from raymlops.errors import ReleaseError
from raymlops.ledger import AliasMove, ModelVersion, Release, Version
from raymlops.operate.workspace import Workspace
from raymlops.release import ReleaseController
from raymlops.release.controller import Publish
from raymlops.serve import TrafficTable

_ROLLED_BACK = "from"
"""The version that was rolled back, in the evidence of the move that did so."""


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

    One more goes further back, never to a version that was rolled back.

    Raises:
        ReleaseError: the alias named no other version before.
        ConflictError: somebody else has just moved it.
    """
    registry = workspace.ledger.registry
    current, earlier = registry.alias(model, "champion"), _champion_before(workspace, model)
    if earlier is None:
        raise ReleaseError(
            f"{model} {current} has no champion before it that was not rolled back: "
            "`raymlops promote` names another"
        )
    return registry.move(
        model,
        "champion",
        earlier,
        who=who,
        why=why,
        evidence={_ROLLED_BACK: str(current)},
        seen=current,
        traffic=TrafficTable.champion(model, str(earlier)).to_dict(),
    )


def _champion_before(workspace: Workspace, model: str) -> Version | None:
    """The version before the champion of now, were the moves that were rolled back never made."""
    moves = workspace.ledger.registry.moves(model, "champion")
    decisions = workspace.ledger.decisions.list(model=model, kind="alias")
    returns = {each.id for each in decisions if _ROLLED_BACK in each.evidence}
    standing: list[Version] = []
    for move in moves:
        if move.decision_id in returns:
            while len(standing) > 1 and standing[-1] != move.version:
                standing.pop()
        elif [move.version] != standing[-1:]:
            standing.append(move.version)
    return standing[-2] if len(standing) > 1 else None


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
