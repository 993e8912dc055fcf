"""Makes a challenger from all that is known at a time, and judges it on what it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from raymlops.data import add_dataset
from raymlops.data.datasets import between
from raymlops.ledger import Dataset, ModelVersion
from raymlops.models import Bundle
from raymlops.operate.training import register, train
from raymlops.operate.workspace import Workspace
from raymlops.release import Verdict, compare, judge, refused_callers

Source = Callable[[datetime], pa.Table]
"""All rows whose labels are known at an event time."""


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """A registered version, and the newest labelled rows, which it was not trained on."""

    version: ModelVersion
    holdout: pa.Table
    start: datetime
    end: datetime


def make_challenger(workspace: Workspace, source: Source, known_at: datetime) -> Challenger:
    """Trains on every row known at `known_at` but the newest `gate.holdout_days`, and registers.

    The holdout ends where labels end: `monitor.windows.label_delay` before `known_at`.
    """
    settings, schema = workspace.settings, workspace.schema
    end = known_at - settings.monitor.windows.label_delay
    start = end - timedelta(days=settings.gate.holdout_days)
    table = source(known_at)
    dataset = _add(workspace, between(table, schema.event_time, None, start), start)
    training = train(workspace, dataset)
    return Challenger(
        version=register(workspace, training),
        holdout=between(table, schema.event_time, start, end),
        start=start,
        end=end,
    )


def judge_challenger(workspace: Workspace, challenger: Challenger) -> Verdict:
    """The gate's verdict on the challenger against the champion of now, on the holdout; one that
    would refuse some of its callers is refused."""
    registry = workspace.ledger.registry
    champion = registry.resolve(f"{challenger.version.model}@champion")
    if (why := refused_callers(workspace.ledger, champion, challenger.version)) is not None:
        return Verdict(passed=False, why=why, evidence={})
    comparison = compare(
        Bundle.of_version(workspace.store, champion),
        Bundle.of_version(workspace.store, challenger.version),
        challenger.holdout,
        workspace.schema,
        start=challenger.start,
        end=challenger.end,
    )
    return judge(workspace.settings.gate, comparison)


def _add(workspace: Workspace, table: pa.Table, until: datetime) -> Dataset:
    return add_dataset(
        workspace.ledger,
        workspace.store,
        table,
        workspace.schema,
        description=f"all rows before {until:%Y-%m-%d}",
    )
