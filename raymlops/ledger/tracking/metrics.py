"""Logged values as rows: appended, and read back whole or as the last of each."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from raymlops.ledger.groups import groups
from raymlops.ledger.records import Metric
from raymlops.ledger.schema import metrics


@dataclass(frozen=True, slots=True)
class Logged:
    """Values of one step, and when they were logged."""

    values: Mapping[str, float]
    step: int
    at: datetime


def rows(run_id: str, logged: Sequence[Logged]) -> list[dict[str, Any]]:
    """What the database keeps of each value.

    Raises:
        TypeError: a step is no integer.
    """
    return [
        {
            "run_id": run_id,
            "name": name,
            "step": operator.index(each.step),  # SQLite keeps an integer of numpy as bytes
            "value": float(value),
            "at": each.at,
        }
        for each in logged
        for name, value in each.values.items()
    ]


def read(connection: Connection, run_id: str, name: str | None) -> Sequence[Metric]:
    """Every logged value, ordered by name, step and time of arrival."""
    row = metrics.c
    query = select(row.name, row.step, row.value, row.at).where(row.run_id == run_id)
    if name is not None:
        query = query.where(row.name == name)
    found = connection.execute(query.order_by(row.name, row.step, row.id))
    return [Metric(name=each.name, step=each.step, value=each.value, at=each.at) for each in found]


def read_newest(connection: Connection, run_id: str) -> Sequence[Metric]:
    """Of each metric the value at its largest step, the latest of those, ordered by name."""
    row = metrics.c
    order = (row.step.desc(), row.id.desc())
    rank = func.row_number().over(partition_by=row.name, order_by=order)
    ranked = select(row.name, row.step, row.value, row.at, rank.label("rank"))
    newest = ranked.where(row.run_id == run_id).subquery()
    found = connection.execute(select(newest).where(newest.c.rank == 1).order_by(newest.c.name))
    return [
        Metric(
            name=each.name,
            step=each.step,
            value=math.nan if each.value is None else each.value,
            at=each.at,
        )
        for each in found
    ]


def read_last(connection: Connection, run_ids: Collection[str]) -> Mapping[str, dict[str, float]]:
    """By run, the value of each metric at its largest step, the latest of those."""
    row = metrics.c
    order = (row.step.desc(), row.id.desc())
    rank = func.row_number().over(partition_by=(row.run_id, row.name), order_by=order)
    last: dict[str, dict[str, float]] = defaultdict(dict)
    for ids in groups(run_ids):
        ranked = select(row.run_id, row.name, row.value, rank.label("rank"))
        newest = ranked.where(row.run_id.in_(ids)).subquery()
        query = select(newest).where(newest.c.rank == 1).order_by(newest.c.name)
        for each in connection.execute(query):
            last[each.run_id][each.name] = math.nan if each.value is None else each.value
    return last
