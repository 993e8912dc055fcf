"""Search expressions as SQL over runs: names and values are bound, never part of the statement.

A run without the parameter, tag or metric satisfies no comparison with it, and neither does one
whose last value is NaN; so `not` is plain negation.
"""

from __future__ import annotations

import operator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    ScalarSelect,
    and_,
    exists,
    false,
    func,
    not_,
    or_,
    select,
)

from raymlops.errors import QueryError
from raymlops.ledger.schema import metrics, params, runs, tags
from raymlops.ledger.tracking.search import (
    Comparison,
    Every,
    Expression,
    Field,
    Not,
    Order,
    Some,
    Value,
)
from raymlops.ledger.types import UtcTime

_OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def condition(expression: Expression) -> ColumnElement[bool]:
    """Raises QueryError when a field is held against a value of another kind."""
    match expression:
        case Every(terms):
            return and_(*map(condition, terms))
        case Some(terms):
            return or_(*map(condition, terms))
        case Not(term):
            return not_(condition(term))
        case Comparison():
            return _comparison(expression)


def ordering(order: Order) -> list[ColumnElement[Any]]:
    """Runs by a field, those without it last; parameters that are numbers before texts."""
    keys = _keys(order.field)
    return [(key.desc() if order.descending else key.asc()).nulls_last() for key in keys]


def _keys(field: Field) -> list[ColumnElement[Any]]:
    match field.group:
        case "metrics":
            return [last_metric(field.name)]
        case "params":
            row = params.c
            mine = (row.run_id == runs.c.id, row.name == field.name)
            return [_of_run(select(column).where(*mine)) for column in (row.number, row.text)]
        case "tags":
            mine = (tags.c.run_id == runs.c.id, tags.c.name == field.name)
            return [_of_run(select(tags.c.value).where(*mine))]
        case _:
            return [runs.c[field.name]]


def last_metric(name: str) -> ScalarSelect[float]:
    """The value at the largest step of each run, the latest of those; NULL without one."""
    row = metrics.c
    return _of_run(
        select(row.value)
        .where(row.run_id == runs.c.id, row.name == name)
        .order_by(row.step.desc(), row.id.desc())
        .limit(1)
    )


def _comparison(comparison: Comparison) -> ColumnElement[bool]:
    field, values = comparison.field, comparison.values
    match field.group:
        case "metrics":
            numbers = [_number(field, value) for value in values]
            return _known(_holds(last_metric(field.name), comparison.operator, numbers))
        case "params":
            row = params.c
            texts = isinstance(values[0], str)
            if any(isinstance(value, str) != texts for value in values):
                raise QueryError(f"{field} is held against numbers and texts at once: {values}")
            column: ColumnElement[Any] = row.text if texts else row.number
            found = [value if isinstance(value, str) else float(value) for value in values]
            holds = _holds(column, comparison.operator, found)
            return runs.c.id.in_(select(row.run_id).where(row.name == field.name, holds))
        case "tags":
            holds = _holds(
                tags.c.value, comparison.operator, [_text(field, value) for value in values]
            )
            mine = (tags.c.run_id == runs.c.id, tags.c.name == field.name)
            return exists().where(*mine, holds)
        case _:
            column = runs.c[field.name]
            is_time = isinstance(column.type, UtcTime)
            read = _time if is_time else _text
            return _known(
                _holds(column, comparison.operator, [read(field, value) for value in values])
            )


def _holds(left: ColumnElement[Any], name: str, values: list[Any]) -> ColumnElement[bool]:
    if name == "in":
        return left.in_(values)
    holds: ColumnElement[bool] = _OPERATORS[name](left, values[0])
    return holds


def _known(holds: ColumnElement[bool]) -> ColumnElement[bool]:
    """False where the comparison is NULL."""
    return func.coalesce(holds, false(), type_=Boolean)


def _of_run(query: Any) -> ScalarSelect[Any]:
    return query.correlate(runs).scalar_subquery()  # type: ignore[no-any-return]


def _number(field: Field, value: Value) -> float:
    if isinstance(value, str):
        raise QueryError(f"{field} is a number, '{value}' a text")
    return float(value)


def _text(field: Field, value: Value) -> str:
    if not isinstance(value, str):
        raise QueryError(f"{field} is a text: write '{value:g}' in quotes, not {value:g}")
    return value


def _time(field: Field, value: Value) -> datetime:
    try:
        time = datetime.fromisoformat(_text(field, value))
    except ValueError as error:
        raise QueryError(
            f"{field} is a time, '{value}' is none; write '2013-06-15' or '2013-06-15T12:00Z'"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
