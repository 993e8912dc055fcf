"""Predictions whose labels have arrived: one by one, or side by side.

A window may hold millions. One by one each takes half a kilobyte; side by side, in arrays of all
that one version answered in one arm, as many bytes as it has numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, Select, and_, case, func, select

from raymlops.ledger import schema
from raymlops.ledger.records import (
    CLASSES,
    NUMBERS,
    Outcome,
    Outcomes,
    label_values,
    score_width,
)

AT_ONCE = 4096
"""Rows that are put side by side at a time."""

_EPOCH = date(1970, 1, 1).toordinal()


def query(*extra: ColumnElement[Any]) -> Select[Any]:
    """What `outcome` reads, and what is asked for besides."""
    predictions, labels = schema.predictions.c, schema.labels.c
    same = and_(predictions.request_id == labels.request_id, predictions.model == labels.model)
    # Ledgers hold labels that were once held against another answer under their id.
    fits = func.length(labels.labels) == case(
        (func.substr(labels.labels, 1, 1) == NUMBERS, 4 * predictions.num_rows + 1),
        (func.substr(labels.labels, 1, 1) == CLASSES, func.length(labels.labels)),
        else_=predictions.num_rows,
    )
    columns = (
        predictions.request_id, predictions.version, predictions.arm, predictions.event_time,
        predictions.num_rows, predictions.scores, predictions.slices, labels.labels,
    )  # fmt: skip
    return select(*columns, *extra).join_from(schema.predictions, schema.labels, same).where(fits)


def outcome(row: Row[Any]) -> Outcome:
    slices = None
    if row.slices is not None:
        slices = np.frombuffer(row.slices, dtype="<u2").reshape(-1, row.num_rows)
    labels = label_values(row.labels, row.num_rows)
    assert labels is not None, "only those that fit are asked for"
    scores = np.frombuffer(row.scores, dtype="<f4")
    if (width := score_width(len(row.scores), row.num_rows)) > 1:
        scores = scores.reshape(row.num_rows, width)
    return Outcome(
        request_id=row.request_id,
        version=sys.intern(row.version),
        arm=sys.intern(row.arm),
        event_time=row.event_time,
        scores=scores,
        labels=labels,
        slices=slices,
    )


def side_by_side(rows: Iterable[Row[Any]]) -> list[Outcomes]:
    """All of them in few `Outcomes`, by version and arm, in their order."""
    parts: dict[_Kind, list[Outcomes]] = {}
    left = iter(rows)
    while some := [outcome(row) for row in islice(left, AT_ONCE)]:
        groups: dict[_Kind, list[Outcome]] = {}
        for each in some:
            groups.setdefault(_kind(each), []).append(each)
        for kind, kin in groups.items():
            parts.setdefault(kind, []).append(_together(kin))
    return [_joined(each) for _, each in sorted(parts.items())]


class _Kind(NamedTuple):
    """What lies side by side is alike in this; `mark` tells which features it is sliced by."""

    version: str
    arm: str
    labels: str
    width: int
    num_slices: int
    mark: int


def _kind(of: Outcome) -> _Kind:
    num_slices, mark = (0, 0) if of.slices is None else (len(of.slices), int(of.slices[0, 0]))
    width = 1 if of.scores.ndim == 1 else of.scores.shape[1]
    return _Kind(of.version, of.arm, of.labels.dtype.str, width, num_slices, mark)


def _together(kin: Sequence[Outcome]) -> Outcomes:
    return Outcomes(
        version=kin[0].version,
        arm=kin[0].arm,
        sizes=np.array([len(each.labels) for each in kin], dtype=np.int64),
        days=np.array([each.event_time.toordinal() - _EPOCH for each in kin], dtype=np.int64),
        scores=np.concatenate([each.scores for each in kin]),
        labels=np.concatenate([each.labels for each in kin]),
        slices=_slices([each.slices for each in kin]),
    )


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    if len(parts) == 1:
        return parts[0]
    return Outcomes(
        version=parts[0].version,
        arm=parts[0].arm,
        sizes=np.concatenate([each.sizes for each in parts]),
        days=np.concatenate([each.days for each in parts]),
        scores=np.concatenate([each.scores for each in parts]),
        labels=np.concatenate([each.labels for each in parts]),
        slices=_slices([each.slices for each in parts]),
    )


def _slices(parts: Sequence[NDArray[np.uint16] | None]) -> NDArray[np.uint16] | None:
    """Of the same features all of them, or of none."""
    known = [each for each in parts if each is not None]
    return np.concatenate(known, axis=1) if known else None
