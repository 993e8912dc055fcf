"""Old predictions removed, with their labels and joins; what was counted of them stays in panes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select

from raymlops.ledger import schema

KIND = "forget predictions"
"""Of the decisions to do so, whose evidence tells what is forgotten `BEFORE` which time."""
BEFORE = "before"

_AT_ONCE = 1_000
"""A transaction: ids lie all over their indexes, so each row dirties pages of its own, and a
thousand fill a write-ahead log of some 15 MB, on a disk that may be nearly full."""


class Forgotten(NamedTuple):
    """So many of one transaction, the newest of event time `until`; None after the last."""

    num: int
    until: datetime | None


def count(connection: Connection, model: str, before: datetime) -> int:
    return connection.scalar(select(func.count()).where(_is_old(model, before))) or 0


def forget(
    connection: Connection, model: str, *, before: datetime, since: datetime | None
) -> Forgotten:
    """Removes the oldest that lie in event time [since, before); all, where `since` is None."""
    columns = schema.predictions.c
    query = select(columns.request_id, columns.event_time).where(_is_old(model, before))
    if since is not None:  # what had to be left is not looked at again and again
        query = query.where(columns.event_time >= since)
    rows = connection.execute(query.order_by(columns.event_time).limit(_AT_ONCE)).all()
    ids = [row.request_id for row in rows]
    for table in (schema.joins, schema.labels, schema.predictions) if ids else ():
        same = table.c.model == model, table.c.request_id.in_(ids)
        connection.execute(delete(table).where(*same))
    return Forgotten(len(ids), rows[-1].event_time if len(ids) == _AT_ONCE else None)


def _is_old(model: str, before: datetime) -> ColumnElement[bool]:
    """That the event and the answer lie before that time, as the former alone does in a replay, and
    that no detector waits for what came true."""
    predictions, joins = schema.predictions.c, schema.joins.c
    same = joins.request_id == predictions.request_id, joins.model == predictions.model
    unseen = (
        select(joins.id)
        .join(schema.watches, schema.watches.c.model == joins.model)
        .where(*same, joins.id > schema.watches.c.position)
        .exists()
    )
    return and_(
        predictions.model == model,
        predictions.event_time < before,
        predictions.served_at < before,
        ~unseen,
    )


def said_of(connection: Connection, model: str | None) -> str:
    """What a person is told who looks for a prediction that may have been one of them."""
    columns = schema.decisions.c
    query = select(columns.id, columns.model, columns.evidence).where(columns.kind == KIND)
    if model is not None:
        query = query.where(columns.model == model)
    row: Any = connection.execute(query.order_by(columns.id.desc()).limit(1)).first()
    if row is None:
        return ""
    return (
        f"; those of {row.model} before {row.evidence[BEFORE][:10]} are forgotten "
        f"(decision {row.id})"
    )
