"""Which runs are meant, as statements; and what they read as runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, or_, select

from raymlops.ledger.records import Code, Owner, Run, RunStatus
from raymlops.ledger.schema import run_inputs, runs
from raymlops.ledger.tracking import params as params_rows
from raymlops.ledger.tracking.filters import condition, last_metric, ordering
from raymlops.ledger.tracking.liveness import status_of
from raymlops.ledger.tracking.owner import look_for
from raymlops.ledger.tracking.search import parse, parse_order
from raymlops.ledger.types import age_s


def with_age() -> Select[Any]:
    """Runs, each with the seconds since its owner gave a sign of life."""
    return select(runs, age_s(runs.c.heartbeat_at).label("heartbeat_age_s"))


def listed(
    *,
    model: str | None,
    kind: str | None,
    parent_id: str | None,
    where: str | None,
    order_by: str | None,
) -> Select[Any]:
    """The runs of which all that is given is true, oldest first unless `order_by` a field."""
    query = _of(with_age(), where, {"model": model, "kind": kind, "parent_id": parent_id})
    keys = [] if order_by is None else ordering(parse_order(order_by))
    return query.order_by(*keys, runs.c.started_at, runs.c.id)


def extremes(
    metric: str, *, largest: bool, model: str | None, kind: str | None, where: str | None
) -> Select[Any]:
    """Finished runs by their last value of `metric`, the best first, of equals the oldest."""
    value = last_metric(metric)
    query = with_age().where(runs.c.status == "finished", value.is_not(None))
    key = value.desc() if largest else value.asc()
    query = _of(query, where, {"model": model, "kind": kind})
    return query.order_by(key, runs.c.started_at, runs.c.id)


def came_from(dataset: str, version: int) -> Select[Any]:
    """Runs a dataset version was given to, what they are nested in, and what is nested in them."""
    given, run = run_inputs.c, runs.c
    started = select(given.run_id).where(
        given.dataset_name == dataset, given.dataset_version == version
    )
    inside = select(run.id).where(run.id.in_(started)).cte("inside", recursive=True)
    inside = inside.union(select(run.id).where(run.parent_id == inside.c.id))
    around = select(run.id, run.parent_id).where(run.id.in_(started)).cte("around", recursive=True)
    around = around.union(select(run.id, run.parent_id).where(run.id == around.c.parent_id))
    found = or_(run.id.in_(select(inside.c.id)), run.id.in_(select(around.c.id)))
    return with_age().where(found).order_by(run.started_at, run.id)


def read(connection: Connection, query: Select[Any]) -> list[Run]:
    """The runs of a query made from `with_age`, with their parameters."""
    rows = connection.execute(query).all()
    params = params_rows.read(connection, [row.id for row in rows])
    return [_run(row, params.get(row.id, {})) for row in rows]


def _of(query: Select[Any], where: str | None, columns: Mapping[str, str | None]) -> Select[Any]:
    for name, value in columns.items():
        if value is not None:
            query = query.where(runs.c[name] == value)
    return query if where is None else query.where(condition(parse(where)))


def _run(row: Row[Any], params: Mapping[str, Any]) -> Run:
    owner = None
    if row.host is not None:
        owner = Owner(host=row.host, pid=row.pid, process_started_at=row.process_started_at)
    status: RunStatus = row.status
    if status == "running":
        status = status_of(status, look_for(owner), row.heartbeat_age_s)
    return Run(
        id=row.id,
        parent_id=row.parent_id,
        kind=row.kind,
        model=row.model,
        status=status,
        params=params,
        code=Code(commit=row.commit, dirty_digest=row.dirty_digest),
        config_digest=row.config_digest,
        environment_digest=row.environment_digest,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error,
        owner=owner,
    )
