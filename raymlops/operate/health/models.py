"""How each model is: what answers, what it was found to be worth, what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from raymlops.cluster import ClusterStatus
from raymlops.data import OUTPUTS
from raymlops.ledger import Drift, Ledger, Performance, Release
from raymlops.monitor import Window, WindowReport, credible_before, late_rows, unjudged_rows
from raymlops.monitor.alerts import Book, Episode
from raymlops.operate.private import is_served_privately
from raymlops.operate.triggers import estimates_of
from raymlops.operate.workspace import Workspace
from raymlops.serve import TrafficTable, application_name, pool_name

Health = Literal["ok", "attention", "broken"]


@dataclass(frozen=True, kw_only=True)
class ModelHealth:
    """A model as the ledger and its alerts know it; the window is the newest that was judged.

    What drifted, and the performance, are the champion's, where it answered in that window; it
    answered `num_unjudged` rows where these are too few to look for drift. `num_late` are rows of
    that window, of any version, that came after drift was looked for. `labels` are all that were
    told so far, by what became of them, see `raymlops.ledger.joins`.
    `traffic` is the share of requests by version, as the published table has it, empty where the
    model is not to be served. `problem` is what is wrong with that.
    """

    model: str
    health: Health
    champion: str | None
    challenger: str | None
    num_versions: int
    release: str | None
    traffic: dict[str, float]
    problem: str | None
    training: tuple[str, ...]
    window_end: datetime | None
    num_drifted: int
    num_features: int
    num_unjudged: int
    num_late: int
    labels: dict[str, int]
    performance: dict[str, float]
    alerts: tuple[str, ...]


def models_of(workspace: Workspace, book: Book, found: ClusterStatus) -> tuple[ModelHealth, ...]:
    ledger = workspace.ledger
    aliases = ledger.overview.aliases()
    before = credible_before(datetime.now(UTC))
    drift = ledger.overview.newest_drift(before=before)
    performance = ledger.overview.newest_performance(before=before)
    running = ledger.runs.list(status="running")
    names = {*ledger.registry.models(), *(run.model for run in running)}
    return tuple(
        _model(
            name,
            ledger,
            champion=aliases.get((name, "champion")),
            challenger=aliases.get((name, "challenger")),
            training=[run.id for run in running if run.model == name],
            drift=[row for row in drift if row.model == name and row.feature not in OUTPUTS],
            performance=[row for row in performance if row.model == name],
            book=book,
            may_be_served=_may_be_served(name, found, workspace.home),
        )
        for name in sorted(names)
    )


def _model(
    name: str,
    ledger: Ledger,
    *,
    champion: str | None,
    challenger: str | None,
    training: Sequence[str],
    drift: Sequence[Drift],
    performance: Sequence[Performance],
    book: Book,
    may_be_served: bool,
) -> ModelHealth:
    alerts = [each for each in book.episodes if each.model == name]
    release = ledger.releases.running(name)
    traffic = _traffic(ledger, name)
    wanted = _wanted(traffic, champion, release)
    problem = _traffic_problem(name, traffic, wanted, may_be_served=may_be_served)
    window = _newest_window([*drift, *performance])
    judged = [row for row in drift if window is not None and row.window_end == window.end]
    of_champion = {} if champion is None else estimates_of(champion, performance)
    features = [row for row in judged if row.version == champion] or judged
    return ModelHealth(
        model=name,
        health=_worst_of(alerts, problem),
        champion=champion,
        challenger=None if challenger == champion else challenger,
        num_versions=len(ledger.registry.list(name)),
        release=None if release is None else f"{release.id}: {release.challenger}",
        traffic=traffic,
        problem=problem,
        training=tuple(training),
        window_end=None if window is None else window.end,
        num_drifted=len({row.feature for row in features if row.drifted}),
        num_features=len({row.feature for row in features}),
        num_unjudged=_num_unjudged(ledger, name, window, champion, judged),
        num_late=_num_late(ledger, name, window, judged),
        labels=ledger.observations.join_counts(name),
        performance={metric: row.value for metric, row in of_champion.items()},
        alerts=tuple(f"{each.severity} {each.name}: {each.summary}" for each in alerts),
    )


def _worst_of(alerts: Sequence[Episode], problem: str | None) -> Health:
    if any(each.severity == "critical" for each in alerts):
        return "broken"
    return "attention" if alerts or problem else "ok"


def _newest_window(rows: Sequence[Drift | Performance]) -> Window | None:
    windows = (Window(row.window_start, row.window_end) for row in rows)
    return max(windows, key=lambda each: each.end, default=None)


def _num_unjudged(
    ledger: Ledger, model: str, window: Window | None, champion: str | None, drift: Sequence[Drift]
) -> int:
    if window is None or champion is None:
        return 0
    report = WindowReport(model=model, window=window, drift=tuple(drift), performance=())
    return unjudged_rows(ledger, report, champion)


def _num_late(ledger: Ledger, model: str, window: Window | None, drift: Sequence[Drift]) -> int:
    if window is None:
        return 0
    report = WindowReport(model=model, window=window, drift=tuple(drift), performance=())
    return sum(late_rows(ledger, report).values())


def _wanted(
    traffic: Mapping[str, float], champion: str | None, release: Release | None
) -> Set[str]:
    """The versions that alias and release say should answer."""
    wanted = set(traffic) if champion is None else {champion}
    return wanted if release is None else wanted | {str(release.challenger)}


def _traffic(ledger: Ledger, model: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    if (published := ledger.releases.published(model)) is not None:
        for arm in TrafficTable.from_dict(published[1]).arms:
            shares[arm.version] = shares.get(arm.version, 0.0) + arm.share
    return shares


def _traffic_problem(
    model: str, traffic: Mapping[str, float], wanted: Set[str], *, may_be_served: bool
) -> str | None:
    """That nobody answers, or that others do than alias and release say."""
    deploy = f"`raymlops deploy {model}@champion`"
    if traffic and not may_be_served:
        return (
            f"{model} is not served: its cluster ended, or its deploy was killed: {deploy}, or "
            f"`raymlops undeploy {model}`"
        )
    if traffic and traffic.keys() != wanted:
        return (
            f"{model} is answered by {', '.join(traffic)}, while alias and releases name "
            f"{', '.join(sorted(wanted))}: let `raymlops watch` run, or {deploy}"
        )
    return None


def _may_be_served(model: str, found: ClusterStatus, home: Path) -> bool:
    """Also where the cluster does not say, or has a pool, whose models it does not name; and where
    there is none, as it may have been joined by its address, or be that of a `deploy`."""
    served = is_served_privately(home, model)
    if served or not found.running or found.problem is not None:
        return served is not False
    return any(
        app.name == application_name(model) or app.name.startswith(pool_name(""))
        for app in found.applications
    )
