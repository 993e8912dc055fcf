"""Predictions and what came true of them, joined by model and request id, whichever arrives first.

    prediction ──► predictions ─┐
                                ├─► joins: a log, each request once, in the order of completion
    labels ──────► labels ──────┘
       └─ before their prediction ─► waiting_labels, bounded by number and age

What does not join is counted by its reason, so that nothing disappears unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from sqlalchemy import Connection, Table, delete, func, insert, select

from raymlops.config import check_durations
from raymlops.ledger import schema
from raymlops.ledger.conflicts import add_counts, insert_new
from raymlops.ledger.database import now
from raymlops.ledger.packed import PackedPredictions
from raymlops.ledger.records import Labels, label_values, score_width

Fate = Literal[
    "joined", "waiting", "repeated", "contradicted", "misfit", "too_late", "overflow", "expired"
]
"""What became of labels.

joined        with their prediction
waiting       for it, when they arrived
repeated      they were there already, the same
contradicted  others were there already, which stay
misfit        as many labels as rows are needed, 0 and 1 where the model says a probability, and
              classes where it says those of several; these are not
too_late      they follow the prediction's event time by more than `max_age_days`
overflow      they waited, and `max_waiting` newer ones did, too
expired       they waited for longer than `max_age_days`

Labels that are told again meet a fate again.
"""

FATES: tuple[Fate, ...] = get_args(Fate)
LOST: tuple[Fate, ...] = ("contradicted", "misfit", "too_late", "overflow", "expired")
"""Those of labels by which nothing is judged."""

_CHUNK = 10_000  # SQLite takes 32,766 variables in a query
_ANY_WAITING = select(schema.waiting_labels.c.id).limit(1)
_Item = TypeVar("_Item")
_Key = tuple[str, str]
"""Model and request id."""


@dataclass(frozen=True, kw_only=True)
class JoinPolicy:
    """How long labels are waited for, and how many may wait for their predictions.

    Labels join a prediction whose event time lies up to `max_age_days` before they were told.
    """

    max_age_days: float = 90.0
    max_waiting: int = 100_000

    def __post_init__(self) -> None:
        check_durations(self, "max_age_days")
        if self.max_waiting < 0:
            raise ValueError(f"max_waiting is {self.max_waiting}, no number of labels")

    def fate(self, labels: Labels, *, num_rows: int, width: int, event_time: datetime) -> Fate:
        """What becomes of labels whose prediction is known, has `width` scores a row and none."""
        values = label_values(labels.labels, num_rows)
        if values is None or (values.dtype == np.int8 and not np.isin(values, (0, 1)).all()):
            return "misfit"
        if (width > 1) != (values.dtype == object):
            return "misfit"
        if labels.at - event_time > timedelta(days=self.max_age_days):
            return "too_late"
        return "joined"


def add_labels(
    connection: Connection, rows: Sequence[Labels], policy: JoinPolicy
) -> Counter[tuple[str, Fate]]:
    """Takes labels in; returns how many met which fate, by model and fate.

    Requests that have labels now and had none before are those joined and waiting. None were known
    after they were told: by a clock that is ahead, all others would have waited for too long.
    """
    fates: Counter[tuple[str, Fate]] = Counter()
    told = now()
    for chunk in _chunks(replace(row, at=min(row.at, told)) for row in rows):
        found = dict(_fates(connection, chunk, policy))
        fates.update((chunk[index].model, fate) for index, fate in found.items())
        joined = [chunk[index] for index, fate in found.items() if fate == "joined"]
        waiting = [chunk[index] for index, fate in found.items() if fate == "waiting"]
        _join(connection, joined)
        if waiting:
            connection.execute(insert(schema.waiting_labels), [vars(row) for row in waiting])
            fates.update(_bound(connection, waiting, policy))
    _count(connection, fates)
    return fates


def join_waiting(
    connection: Connection, predictions: Sequence[PackedPredictions], policy: JoinPolicy
) -> None:
    """Joins predictions that have just been added with labels that have waited for them."""
    table = schema.waiting_labels
    if not predictions or connection.scalar(_ANY_WAITING) is None:
        return
    fates: Counter[tuple[str, Fate]] = Counter()
    places: dict[_Key, tuple[PackedPredictions, int]] = {}
    for packed in predictions:
        for number, request_id in enumerate(packed.request_ids):
            # Of several answers under one id the first is stored, so labels are held against it.
            places.setdefault((packed.model, request_id), (packed, number))
    for chunk in _chunks({request_id for _, request_id in places}):
        same_id = connection.execute(select(table).where(table.c.request_id.in_(chunk)))
        rows = [row for row in same_id if (row.model, row.request_id) in places]
        joined = []
        for row in rows:
            labels = Labels(**{name: row._mapping[name] for name in Labels.__dataclass_fields__})
            packed, number = places[labels.model, labels.request_id]
            fate = policy.fate(
                labels,
                num_rows=int(packed.num_rows[number]),
                width=packed.width(number),
                event_time=packed.happened(number),
            )
            fates[labels.model, fate] += 1
            if fate == "joined":
                joined.append(labels)
        if rows:
            connection.execute(delete(table).where(table.c.id.in_([row.id for row in rows])))
        _join(connection, joined)
    _count(connection, fates)


def _fates(
    connection: Connection, rows: Sequence[Labels], policy: JoinPolicy
) -> Iterator[tuple[int, Fate]]:
    """(index, what becomes of it) of each row, the earlier ones deciding over the later."""
    ids = {row.request_id for row in rows}
    known = _labels(connection, schema.labels, ids) | _labels(
        connection, schema.waiting_labels, ids
    )
    predictions = _predictions(connection, ids)
    for index, row in enumerate(rows):
        key = row.model, row.request_id
        if (before := known.get(key)) is not None:
            yield index, "repeated" if before == row.labels else "contradicted"
            continue
        prediction = predictions.get(key)
        if prediction is None:
            fate: Fate = "waiting"
        else:
            fate = policy.fate(
                row,
                num_rows=prediction.num_rows,
                width=score_width(prediction.size_bytes, prediction.num_rows),
                event_time=prediction.event_time,
            )
        if fate in ("joined", "waiting"):
            known[key] = row.labels
        yield index, fate


def _join(connection: Connection, rows: Sequence[Labels]) -> None:
    if rows:
        insert_new(connection, schema.labels, [vars(row) for row in rows])
        pairs = [{"model": row.model, "request_id": row.request_id} for row in rows]
        connection.execute(insert(schema.joins), pairs)


def _bound(
    connection: Connection, waiting: Sequence[Labels], policy: JoinPolicy
) -> Counter[tuple[str, Fate]]:
    """Drops what waits for too long and beside too many, and counts it."""
    table, fates = schema.waiting_labels, Counter[tuple[str, Fate]]()
    for model in {row.model for row in waiting}:
        newest = max(row.at for row in waiting if row.model == model)
        oldest = newest - timedelta(days=policy.max_age_days)
        mine = table.c.model == model
        old = delete(table).where(mine, table.c.at < oldest)
        fates[model, "expired"] += connection.execute(old).rowcount
        count = connection.scalar(select(func.count()).where(mine)) or 0
        if (excess := count - policy.max_waiting) > 0:
            first = select(table.c.id).where(mine).order_by(table.c.id).limit(excess)
            connection.execute(delete(table).where(table.c.id.in_(first)))
            fates[model, "overflow"] += excess
    return fates


def _count(connection: Connection, fates: Counter[tuple[str, Fate]]) -> None:
    rows = [
        {"model": model, "fate": fate, "num": num}
        for (model, fate), num in sorted(fates.items())
        if num
    ]
    add_counts(connection, schema.join_counts, rows)


def _labels(connection: Connection, table: Table, ids: set[str]) -> dict[_Key, bytes]:
    columns = table.c
    query = select(columns.model, columns.request_id, columns.labels)
    rows = connection.execute(query.where(columns.request_id.in_(ids)))
    return {(row.model, row.request_id): row.labels for row in rows}


def _predictions(connection: Connection, ids: set[str]) -> dict[_Key, Any]:
    columns = schema.predictions.c
    size = func.length(columns.scores).label("size_bytes")
    query = select(columns.model, columns.request_id, columns.num_rows, columns.event_time, size)
    rows = connection.execute(query.where(columns.request_id.in_(ids)))
    return {(row.model, row.request_id): row for row in rows}


def _chunks(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    items = list(items)
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
