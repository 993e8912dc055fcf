"""Rules a table must keep before anything is trained from it, and one pass that checks them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from raymlops.data.features import Feature
from raymlops.data.rules import (
    Batches,
    Checker,
    Expectation,
    Finding,
    Finite,
    MissingShare,
    OneOf,
    Range,
    References,
    RowCount,
    Typed,
)
from raymlops.data.rules.types import LABELS
from raymlops.data.schema import TableSchema
from raymlops.data.statistics import ColumnStatistics, Statistics
from raymlops.errors import ExpectationError

_FLOAT32_MAX = 3.4e38


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What one pass over the rows of a dataset found."""

    num_rows: int
    findings: tuple[Finding, ...]
    statistics: tuple[ColumnStatistics, ...]


def check(
    rows: pa.Table | Batches, schema: TableSchema, references: References | None = None
) -> tuple[Finding, ...]:
    """Every rule of `schema`, checked on `rows`, passed or not.

    Raises:
        DataError: a rule needs an earlier version, and there are no `references`.
    """
    checks = _Checks(expectations(schema), rows.schema, references)
    num_rows = 0
    for batch in _batches(rows):
        checks.feed(batch)
        num_rows += batch.num_rows
    return checks.findings(num_rows)


def enforce(
    rows: pa.Table | Batches, schema: TableSchema, references: References | None = None
) -> tuple[Finding, ...]:
    """The findings of `check`, all of them passed.

    Raises:
        ExpectationError: names the column, the rule, the count and examples of each broken rule.
    """
    findings = check(rows, schema, references)
    refuse(schema.dataset, findings)
    return findings


def examine(
    rows: Batches, schema: TableSchema, references: References | None = None
) -> Examination:
    """Findings and statistics, in one pass and bounded memory."""
    checks = _Checks(expectations(schema), rows.schema, references)
    statistics = Statistics(rows.schema)
    for batch in rows.batches():
        statistics.feed(batch)
        checks.feed(batch)
    return Examination(
        num_rows=statistics.num_rows,
        findings=checks.findings(statistics.num_rows),
        statistics=statistics.columns(),
    )


def refuse(dataset: str, findings: Iterable[Finding], digest: str = "") -> None:
    """Raises ExpectationError when one of the findings did not pass."""
    broken = tuple(str(finding) for finding in findings if not finding.passed)
    if broken:
        raise ExpectationError(dataset, broken, digest)


def expectations(schema: TableSchema) -> Iterator[Expectation]:
    """All rules of a table: those its features imply, then those declared beside them."""
    yield RowCount(min=schema.min_rows)
    for feature in schema.features:
        yield from _of_feature(feature)
    yield from _of_target(schema)
    yield Typed(column=schema.event_time, type="timestamp with a zone")
    yield MissingShare(column=schema.event_time)
    yield from schema.expectations


def _of_target(schema: TableSchema) -> Iterator[Expectation]:
    if schema.task == "regression":
        yield Typed(column=schema.target, type="number")
        yield MissingShare(column=schema.target)
        # An answer is float32.
        yield Range(column=schema.target, low=-_FLOAT32_MAX, high=_FLOAT32_MAX)
        return
    names = tuple(each for each in schema.classes if isinstance(each, str))
    numbers = tuple(float(each) for each in schema.classes if isinstance(each, int))
    kind = "category" if names else "integer" if numbers else "0/1"
    yield Typed(column=schema.target, type=kind)
    yield MissingShare(column=schema.target)
    if names or numbers:
        yield OneOf(column=schema.target, values=names or numbers)
    else:
        yield _ZeroOrOne(column=schema.target)


@dataclass(frozen=True, kw_only=True)
class _ZeroOrOne(OneOf):
    """Of labels that may be meant to be others."""

    values: tuple[float, ...] = (0.0, 1.0)
    way_out: ClassVar[str] = LABELS


def _of_feature(feature: Feature) -> Iterator[Expectation]:
    yield Typed(column=feature.name, type=feature.kind)
    yield MissingShare(column=feature.name, max_share=feature.max_missing)
    if feature.low is not None or feature.high is not None:
        yield Range(column=feature.name, low=feature.low, high=feature.high)
    if feature.kind == "number":
        yield Finite(column=feature.name)


class _Checks:
    """The checkers of all rules that the columns of a table allow.

    What they do not allow is a finding at once: a column that is missing, or of a type the rule
    cannot judge. Such a column is named once, not once a rule.
    """

    def __init__(
        self, rules: Iterable[Expectation], schema: pa.Schema, references: References | None
    ) -> None:
        self._schema = schema
        self._rules = [(rule, self._checker(rule, references)) for rule in rules]

    def feed(self, batch: pa.RecordBatch) -> None:
        for _, checker in self._rules:
            if checker is not None:
                checker.feed(batch)

    def findings(self, num_rows: int) -> tuple[Finding, ...]:
        found: dict[tuple[str, str], Finding] = {}
        unfit: set[str] = set()
        for rule, checker in self._rules:
            each = checker.findings(num_rows) if checker else self._refusals(rule, num_rows, unfit)
            for finding in each:
                found.setdefault((finding.column, finding.rule), finding)
                if isinstance(rule, Typed) and not finding.passed:
                    unfit.add(finding.column)
        return tuple(found.values())

    def _checker(self, rule: Expectation, references: References | None) -> Checker | None:
        if not all(name in self._schema.names for name in rule.reads):
            return None
        kinds = [self._schema.field(name).type for name in rule.reads]
        unfit = [kind for kind in kinds if not rule.accepts(kind)]
        if not unfit:
            return rule.checker(self._schema, references)
        return _Nothing() if all(pa.types.is_null(kind) for kind in unfit) else None

    def _refusals(self, rule: Expectation, num_rows: int, unfit: set[str]) -> Iterator[Finding]:
        names = self._schema.names
        for name in rule.reads:
            if name not in names:
                yield Finding(
                    column=name,
                    rule="column present",
                    num_broken=num_rows or 1,
                    num_rows=num_rows,
                    examples=(f"the table has {', '.join(names)}",),
                )
            elif name not in unfit and not rule.accepts(kind := self._schema.field(name).type):
                yield Finding(
                    column=name,
                    rule=f"type {rule.wants}",
                    num_broken=num_rows or 1,
                    num_rows=num_rows,
                    examples=(f"it is {kind}",),
                )


class _Nothing:
    """Judges columns that hold nothing, which breaks no rule about values."""

    def feed(self, batch: pa.RecordBatch) -> None: ...

    def findings(self, num_rows: int) -> Iterator[Finding]:
        return iter(())


def _batches(rows: pa.Table | Batches) -> Iterator[pa.RecordBatch]:
    if isinstance(rows, pa.Table):
        yield from rows.to_batches(max_chunksize=1 << 16)
    else:
        yield from rows.batches()
