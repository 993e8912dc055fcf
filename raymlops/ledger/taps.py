"""What replicas tell the monitor, merged many messages at a time.

All that arrived while the last transaction was being synced goes into the next one. So its cost,
one sync and one update of each pane, is shared by as many messages as there are replicas that send.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, bindparam, delete, func, select

from raymlops.ledger import joins, schema
from raymlops.ledger.conflicts import insert_new_values, insert_or_update
from raymlops.ledger.database import now
from raymlops.ledger.joins import JoinPolicy
from raymlops.ledger.packed import COLUMNS, PackedPredictions
from raymlops.ledger.records import Pane, Prediction

_Key = tuple[object, ...]

_MAX_REPLICAS = 10_000  # the number of the next message of each is remembered

# Written once: to put a statement together takes as long as to run it.
_PANE_KEYS = ("model", "version", "arm", "day")
_SAME_PANE = select(schema.panes).where(
    *(schema.panes.c[name] == bindparam(name) for name in _PANE_KEYS)
)
_OFFSETS = schema.tap_offsets.c
_FOLLOWING = select(_OFFSETS.replica, _OFFSETS.next_sequence).where(
    _OFFSETS.replica.in_(bindparam("replicas", expanding=True))
)


class TapMessage(NamedTuple):
    """Message number `sequence` of a replica, which counts its messages from 0, without gaps."""

    replica: str
    sequence: int
    panes: Sequence[Pane]
    predictions: Sequence[Prediction]


def merge(connection: Connection, messages: Iterable[TapMessage], policy: JoinPolicy) -> int:
    """Adds the messages that were not added before, and returns how many those were.

    Counts, predictions and sequence numbers land together, so that a message is counted once
    however often it is sent. A replica must send its messages in order.
    """
    ordered = sorted(messages, key=lambda message: message.sequence)
    following = _following(connection, {message.replica for message in ordered})
    known = set(following)
    fresh = []
    for message in ordered:
        if message.sequence >= following.get(message.replica, 0):
            following[message.replica] = message.sequence + 1
            fresh.append(message)
    if not fresh:
        return 0
    _remember(connection, {message.replica: following[message.replica] for message in fresh})
    if not known.issuperset(message.replica for message in fresh):
        _forget_silent(connection)
    for pane in _merged(fresh):
        _add_pane(connection, pane)
    packed = [_packed(message.predictions) for message in fresh if message.predictions]
    backend = connection.dialect.name
    rows = itertools.chain.from_iterable(each.stored(backend) for each in packed)
    insert_new_values(connection, schema.predictions, COLUMNS, rows)
    joins.join_waiting(connection, packed, policy)
    return len(fresh)


def _packed(predictions: Sequence[Prediction]) -> PackedPredictions:
    if isinstance(predictions, PackedPredictions):
        return predictions
    return PackedPredictions.of(predictions)


def _following(connection: Connection, replicas: set[str]) -> dict[str, int]:
    rows = connection.execute(_FOLLOWING, {"replicas": list(replicas)})
    return {row.replica: row.next_sequence for row in rows}


def _remember(connection: Connection, following: dict[str, int]) -> None:
    heard_at = now()
    insert_or_update(
        connection,
        schema.tap_offsets,
        [
            {"replica": name, "next_sequence": number, "heard_at": heard_at}
            for name, number in following.items()
        ],
    )


def _forget_silent(connection: Connection) -> None:
    """Replicas end and never come back; of those heard of longest ago nothing is sent again."""
    count = connection.scalar(select(func.count()).select_from(schema.tap_offsets)) or 0
    if count > _MAX_REPLICAS:
        first = select(_OFFSETS.replica).order_by(
            _OFFSETS.heard_at.is_not(None), _OFFSETS.heard_at, _OFFSETS.replica
        )
        silent = _OFFSETS.replica.in_(first.limit(count - _MAX_REPLICAS))
        connection.execute(delete(schema.tap_offsets).where(silent))


def _merged(messages: Sequence[TapMessage]) -> list[Pane]:
    """One pane for each arm and day, however many messages bring some of it."""
    found: dict[_Key, list[Pane]] = {}
    for message in messages:
        for pane in message.panes:
            found.setdefault((pane.model, pane.version, pane.arm, pane.day), []).append(pane)
    return [_sum(panes) for panes in found.values()]


def _sum(panes: Sequence[Pane]) -> Pane:
    if len(panes) == 1:
        return panes[0]
    first = panes[0]
    return Pane(
        model=first.model,
        version=first.version,
        arm=first.arm,
        day=first.day,
        num_rows=sum(pane.num_rows for pane in panes),
        num_failed=sum(pane.num_failed for pane in panes),
        cells=np.sum([pane.cells for pane in panes], axis=0, dtype=np.int64),
        latency=tuple(np.sum([pane.latency for pane in panes], axis=0).tolist()),
    )


def _add_pane(connection: Connection, pane: Pane) -> None:
    keys = {name: getattr(pane, name) for name in _PANE_KEYS}
    row = connection.execute(_SAME_PANE, keys).one_or_none()
    if row is not None:
        pane = pane_of(row) + pane
    counts = {
        "num_rows": pane.num_rows,
        "num_failed": pane.num_failed,
        "cells": pane.cells.astype("<i8", copy=False).tobytes(),
        "latency": list(pane.latency),
    }
    insert_or_update(connection, schema.panes, [keys | counts])


def pane_of(row: Row[Any]) -> Pane:
    return Pane(
        model=row.model,
        version=row.version,
        arm=row.arm,
        day=row.day,
        num_rows=row.num_rows,
        num_failed=row.num_failed,
        cells=np.frombuffer(row.cells, dtype="<i8"),
        latency=tuple(row.latency),
    )
