"""The versions of a model as a table, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from raymlops.errors import NotFoundError
from raymlops.ledger import Ledger, ModelVersion
from raymlops.ledger.figures import shown_figure
from raymlops.monitor.losses import LOSSES
from raymlops.monitor.report.figures import CHAMPION


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    version: str
    is_champion: bool
    registered: datetime
    trained_to: datetime | None
    run: str
    data: str
    loss: str


def champion_of(ledger: Ledger, model: str) -> ModelVersion | None:
    try:
        return ledger.registry.resolve(f"{model}@{CHAMPION}")
    except NotFoundError:
        return None


def version_rows(ledger: Ledger, model: str, versions: Sequence[ModelVersion]) -> list[VersionRow]:
    champion = champion_of(ledger, model)
    rows = []
    for row in reversed(versions):
        metrics = ledger.runs.last_metrics(row.run_id)
        known = (name for name in (*LOSSES, "validation_loss") if name in metrics)
        name = next(known, None)
        inputs = ledger.runs.inputs(row.run_id).values()
        rows.append(
            VersionRow(
                version=str(row.version),
                is_champion=row == champion,
                registered=row.created_at,
                trained_to=row.event_time,
                run=row.run_id,
                data=", ".join(f"{name} {version}" for name, version in inputs),
                loss="" if name is None else f"{_told(name)} {shown_figure(metrics[name])}",
            )
        )
    return rows


def _told(metric: str) -> str:
    return LOSSES[metric].title if metric in LOSSES else metric.replace("_", " ")
