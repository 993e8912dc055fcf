"""Old predictions removed from the ledger, but none that anything may still be judged by; and the
checkpoints that trainings left.

    forgotten                         │ kept
    ──────────────────────────────────┼───────────────────────────────────────────────► event time
                                      │ windows for whose rows labels may come, or that nobody has
                                      │ judged yet, and the release that runs

What windows were found to be worth, the counts behind drift, and every decision stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from raymlops.errors import ConfigError
from raymlops.ledger import Decision, JoinPolicy
from raymlops.ledger.forgetting import BEFORE, KIND
from raymlops.monitor import WindowPolicy
from raymlops.monitor.windows import first_start
from raymlops.operate.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """What lies `before` may be forgotten; `because` says why no more of what was asked for may."""

    before: datetime
    because: str | None = None


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was forgotten, or would be: then, and where it is nothing, there is no decision."""

    model: str
    before: datetime
    because: str | None
    num_predictions: int
    decision: Decision | None


def forget_predictions(
    workspace: Workspace,
    *,
    keep_days: float,
    now: datetime,
    who: str,
    why: str,
    dry_run: bool = False,
) -> Forgotten:
    """Removes those predictions of the workspace's model, with their labels, whose event and answer
    lie more than `keep_days` back; needs no cluster, and may run beside everything.

    The decision to do so comes first. Whoever is killed then asks again for the rest.

    Raises:
        ConfigError: labels may still come for some of that age.
        NotFoundError: the ledger holds no such model.
        ValueError: nobody or no reason is named.
    """
    if not who.strip() or not why.strip():
        raise ValueError(f"forgetting predictions needs a name and a reason: {who!r}, {why!r}")
    model, ledger = workspace.model, workspace.ledger
    ledger.registry.newest(model)  # says so where there is no such model
    monitor, release = workspace.settings.monitor, ledger.releases.running(model)
    horizon = horizon_of(
        timedelta(days=keep_days),
        now,
        monitor.windows,
        monitor.joins,
        judged=ledger.observations.last_judged(model),
        released=None if release is None else release.event_time or release.started_at,
    )
    before = horizon.before
    number, decision = ledger.observations.count_old(model, before=before), None
    if number and not dry_run:
        decision = ledger.decisions.add(
            model=model,
            kind=KIND,
            outcome=f"{number:,} predictions before {before:%Y-%m-%d}",
            who=who,
            why=why,
            evidence={BEFORE: before, "num_predictions": number, "keep_days": keep_days},
        )
        done = ledger.observations.forget(model, before=before)
        while done.until is not None:
            done = ledger.observations.forget(model, before=before, since=done.until)
    return Forgotten(
        model=model,
        before=before,
        because=horizon.because,
        num_predictions=number,
        decision=decision,
    )


@dataclass(frozen=True, kw_only=True)
class ForgottenCheckpoints:
    """Those of a run and of all that went on with it, or what would be forgotten: then there is no
    decision."""

    model: str
    runs: tuple[str, ...]
    folder: str
    size_bytes: int
    decision: Decision | None


def forget_checkpoints(
    workspace: Workspace,
    *,
    keep_days: float,
    now: datetime,
    who: str,
    why: str,
    model: str | None = None,
    dry_run: bool = False,
) -> tuple[ForgottenCheckpoints, ...]:
    """Removes the checkpoints of trainings of this home, of all models or one, the newest of which
    was written more than `keep_days` ago; these runs can be resumed no more. Weights stay.

    Raises:
        OSError: a folder cannot be removed.
        ValueError: nobody or no reason is named.
    """
    from raymlops.train.checkpoints.leftovers import leftovers

    if not who.strip() or not why.strip():
        raise ValueError(f"forgetting checkpoints needs a name and a reason: {who!r}, {why!r}")
    ledger, forgotten = workspace.ledger, []
    before = now - timedelta(days=keep_days)
    for each in leftovers(ledger, workspace.home, before=before, model=model):
        runs, decision = tuple(run.id for run in each.runs), None
        if not dry_run:
            decision = ledger.decisions.add(
                model=each.runs[0].model,
                kind="forget checkpoints",
                outcome=f"checkpoints of run {runs[0]}",
                who=who,
                why=why,
                evidence={"runs": runs, "folder": each.folder, "size_bytes": each.size_bytes},
            )
            each.remove()
        forgotten.append(
            ForgottenCheckpoints(
                model=each.runs[0].model,
                runs=runs,
                folder=each.folder,
                size_bytes=each.size_bytes,
                decision=decision,
            )
        )
    return tuple(forgotten)


def horizon_of(
    keep: timedelta,
    now: datetime,
    windows: WindowPolicy,
    joins: JoinPolicy,
    *,
    judged: datetime | None,
    released: datetime | None,
) -> Horizon:
    """Of predictions that are to be kept for so long.

    Args:
        judged: the end of the last window that was; None where nobody judges any.
        released: since when the release runs, if one does.

    Raises:
        ConfigError: labels may come for longer.
    """
    wanted = now - keep
    needed = first_start(windows, after=now - timedelta(days=joins.max_age_days))
    if wanted > needed:
        raise ConfigError(
            f"predictions are needed for {ceil((now - needed) / timedelta(days=1))} days, not "
            f"{keep / timedelta(days=1):g}: labels may come for {joins.max_age_days:g} days "
            "(monitor.joins.max_age_days), and windows are judged again by them; keep more, or "
            "set that lower where the model is deployed, too"
        )
    bounds = [Horizon(before=wanted)]
    if judged is not None:
        because = f"windows that end after {judged:%Y-%m-%d} are not judged yet"
        bounds.append(Horizon(before=first_start(windows, after=judged), because=because))
    if released is not None:
        bounds.append(Horizon(before=released, because="a release has run since"))
    return min(bounds, key=lambda each: each.before)
