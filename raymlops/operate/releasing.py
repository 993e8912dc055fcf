"""Which version answers: promotions, releases, and the way back from both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from raymlops import serve
from raymlops.errors import ReleaseError
from raymlops.ledger import AliasMove, Decision, ModelVersion, Release, Version
from raymlops.operate.workspace import Workspace
from raymlops.release import ReleaseController
from raymlops.release.controller import Publish
from raymlops.serve import TrafficTable

_ROLLED_BACK = "from"
"""The version that was rolled back, in the evidence of the move that did so."""

_DOUBT = timedelta(minutes=10)
"""Who asks so soon after something was rolled back may not know of that."""


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


def rollback(workspace: Workspace, reference: str, *, who: str, why: str) -> Release | AliasMove:
    """Takes its traffic from MODEL@VERSION, at once: ends the release of it that runs, or moves
    the champion alias back to the version it named before. MODEL alone is the release that runs,
    or else the champion. The replicas follow in about `serve.POLL_S` seconds.

    One more goes further back, never to a version that was rolled back.

    Raises:
        ReleaseError: that version answers nothing, or the alias named no other before it; or none
            is named, and a guard or somebody else has just rolled one back: what answers now may
            well be healthy.
        ConflictError: somebody else has just moved the alias, or the release has just ended.
    """
    model, _, named = reference.partition("@")
    champion = workspace.ledger.registry.alias(model, "champion")
    running = workspace.ledger.releases.running(model)
    if named:
        version = workspace.ledger.registry.resolve(reference).version
        if running is not None and version == running.challenger:
            return _end_release(workspace, running, who=who, why=why)
        if version != champion:
            raise ReleaseError(
                f"there is nothing to roll back: {model} {version} is neither the champion, which "
                f"is {champion}, nor in a release that runs"
            )
    elif running is not None:
        return _end_release(workspace, running, who=who, why=why)
    else:
        _refuse_in_doubt(workspace, model, champion)
    return _step_back(workspace, model, champion, who=who, why=why)


def _end_release(workspace: Workspace, running: Release, *, who: str, why: str) -> Release:
    """Rolls back a release that runs: traffic goes back to the champion, and where a person has
    made the challenger that, to the one before it."""
    model, ledger = running.model, workspace.ledger
    champion = ledger.registry.alias(model, "champion")
    is_promoted = champion == running.challenger
    wanted = _earlier(workspace, model, champion) if is_promoted else champion
    return ledger.releases.advance(
        running.id,
        running.state,
        "rolled_back",
        outcome="rolled back",
        who=who,
        why=why,
        evidence={_ROLLED_BACK: str(champion)} if is_promoted else {},
        traffic=TrafficTable.champion(model, str(wanted)).to_dict(),
        seen=champion,
        champion=wanted if is_promoted else None,
    )


def _step_back(
    workspace: Workspace, model: str, current: Version, *, who: str, why: str
) -> AliasMove:
    earlier = _earlier(workspace, model, current)
    return workspace.ledger.registry.move(
        model,
        "champion",
        earlier,
        who=who,
        why=why,
        evidence={_ROLLED_BACK: str(current)},
        seen=current,
        traffic=TrafficTable.champion(model, str(earlier)).to_dict(),
    )


def _earlier(workspace: Workspace, model: str, current: Version) -> Version:
    if (earlier := _champion_before(workspace, model)) is None:
        raise ReleaseError(
            f"{model} {current} has no champion before it that was not rolled back: "
            "`raymlops promote` names another"
        )
    return earlier


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


def _refuse_in_doubt(workspace: Workspace, model: str, champion: Version) -> None:
    """Raises ReleaseError where nothing has changed who answers since a rollback of just now."""
    if (last := _last_rollback(workspace, model)) is None:
        return
    ended, decision = last
    if datetime.now(UTC) - decision.at < _DOUBT:
        raise ReleaseError(
            f"{model} {ended} was rolled back at {decision.at:%H:%M:%S} UTC by {decision.who} "
            f"({decision.why}), and {champion} has answered since: there is nothing more to roll "
            f"back. If {champion} is bad, too: `raymlops rollback {model}@{champion} --why ...`"
        )


def _last_rollback(workspace: Workspace, model: str) -> tuple[str, Decision] | None:
    """The newest decision on who answers and the version it took the traffic from, if it did."""
    for decision in reversed(workspace.ledger.decisions.list(model=model)):
        match decision.kind, decision.outcome.split():
            case "release", [str(ended), "rolled", "back"]:
                return ended, decision
            case "alias", ["champion", *_] if _ROLLED_BACK in decision.evidence:
                return decision.evidence[_ROLLED_BACK], decision
            case ("release", _) | ("alias", ["champion", *_]):
                return None
    return None


def release(
    workspace: Workspace, version: ModelVersion, *, now: datetime, who: str, why: str
) -> Release:
    """Gives `version` its first share of a deployed model's traffic; an operator goes on from it.

    Raises:
        ConflictError: another release of this model is running.
    """
    controller = ReleaseController(
        workspace.ledger, workspace.store, workspace.settings.release, publisher(workspace)
    )
    return controller.start(version, now=now, who=who, why=why)


def publisher(workspace: Workspace) -> Publish:
    """Makes all replicas follow a traffic table, and waits until they do.

    Where a person takes the traffic back while the board is waited for, that stands.
    """

    def publish(table: TrafficTable) -> None:
        published = workspace.ledger.releases.published(table.model)
        seen = {} if published is None else published[1]
        generation = serve.publish(table, ledger_url=workspace.ledger_url, seen=seen)
        serve.wait_applied(table.model, generation, ledger_url=workspace.ledger_url)

    return publish
