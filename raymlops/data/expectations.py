"""Rules a table must keep before anything is trained from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.features import Feature, TableSchema
from raymlops.errors import ExpectationError

_NUM_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule, checked: `num_broken` of `num_rows` rows break it; `examples` are their values."""

    column: str
    rule: str
    num_broken: int
    num_rows: int
    examples: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.num_broken == 0

    def __str__(self) -> str:
        shown = f", e.g. {', '.join(self.examples)}" if self.examples else ""
        return (
            f"column '{self.column}': rule '{self.rule}' is broken by "
            f"{self.num_broken} of {self.num_rows} rows{shown}"
        )


def check(table: pa.Table, schema: TableSchema) -> tuple[Finding, ...]:
    """Every rule of `schema`, checked on `table`, passed or not."""
    return tuple(_findings(table, schema))


def enforce(table: pa.Table, schema: TableSchema) -> tuple[Finding, ...]:
    """The findings of `check`, all of them passed.

    Raises:
        ExpectationError: names the column, the rule, the count and examples of each broken rule.
    """
    findings = check(table, schema)
    broken = tuple(str(finding) for finding in findings if not finding.passed)
    if broken:
        raise ExpectationError(schema.dataset, broken)
    return findings


def _findings(table: pa.Table, schema: TableSchema) -> Iterator[Finding]:
    yield Finding(
        column="*",
        rule=f"at least {schema.min_rows} rows",
        num_broken=max(0, schema.min_rows - table.num_rows),
        num_rows=table.num_rows,
    )
    for feature in schema.features:
        yield from _feature(table, feature)
    yield from _target(table, schema.target)
    yield from _event_time(table, schema.event_time)


def _feature(table: pa.Table, feature: Feature) -> Iterator[Finding]:
    if (column := _present(table, feature.name)) is None:
        yield _missing_column(table, feature.name)
        return
    fits = _is_number if feature.kind == "number" else _is_category
    yield _typed(column, feature.name, feature.kind, fits(column.type))
    if not fits(column.type):
        return
    missing = _missing(column)
    num_missing = pc.sum(missing).as_py() or 0
    share = num_missing / max(1, table.num_rows)
    yield Finding(
        column=feature.name,
        rule=f"missing share at most {feature.max_missing:g}",
        num_broken=num_missing if share > feature.max_missing else 0,
        num_rows=table.num_rows,
    )
    if feature.low is not None:
        below = pc.less(column, feature.low)
        yield _rows(column, feature.name, f"at least {feature.low:g}", below)
    if feature.high is not None:
        above = pc.greater(column, feature.high)
        yield _rows(column, feature.name, f"at most {feature.high:g}", above)
    if feature.kind == "number" and pa.types.is_floating(column.type):
        yield _rows(column, feature.name, "finite", pc.is_inf(column))


def _target(table: pa.Table, name: str) -> Iterator[Finding]:
    if (column := _present(table, name)) is None:
        yield _missing_column(table, name)
        return
    fits = pa.types.is_boolean(column.type) or _is_number(column.type)
    yield _typed(column, name, "0/1", fits)
    if fits:
        values = pc.cast(column, pa.float64())
        is_label = pc.is_in(values, pa.array([0.0, 1.0]))
        yield _rows(column, name, "0 or 1", pc.invert(is_label))


def _event_time(table: pa.Table, name: str) -> Iterator[Finding]:
    if (column := _present(table, name)) is None:
        yield _missing_column(table, name)
        return
    fits = pa.types.is_timestamp(column.type) and column.type.tz is not None
    yield _typed(column, name, "timestamp with a zone", fits)
    if fits:
        yield _rows(column, name, "not missing", pc.is_null(column))


def _present(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    return table[name] if name in table.column_names else None


def _missing_column(table: pa.Table, name: str) -> Finding:
    return Finding(
        column=name,
        rule="column present",
        num_broken=table.num_rows or 1,
        num_rows=table.num_rows,
        examples=(f"the table has {', '.join(table.column_names)}",),
    )


def _typed(column: pa.ChunkedArray, name: str, wanted: str, fits: bool) -> Finding:
    return Finding(
        column=name,
        rule=f"type {wanted}",
        num_broken=0 if fits else len(column) or 1,
        num_rows=len(column),
        examples=() if fits else (f"it is {column.type}",),
    )


def _rows(column: pa.ChunkedArray, name: str, rule: str, broken: Any) -> Finding:
    broken = pc.fill_null(broken, False)
    values = column.filter(broken)
    return Finding(
        column=name,
        rule=rule,
        num_broken=len(values),
        num_rows=len(column),
        examples=tuple(str(value.as_py()) for value in values.slice(0, _NUM_EXAMPLES)),
    )


def _missing(column: pa.ChunkedArray) -> Any:
    return pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_category(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    return any(test(kind) for test in tests)
