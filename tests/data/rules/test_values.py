"""What rules make of missing, large and odd values, and of types they cannot judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data import TableSchema, check
from raymlops.data.rules import Compare, Expectation, Monotone, OneOf, Range, Unique
from tests.data.rules.checked import MIDNIGHT, NOON, TABLE, findings


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_rows_that_miss_a_number_are_passed_over(missing: float | None, chunk: int) -> None:
    """NaN, which no number equals nor follows, is missing as null is."""
    table = pa.table({"left": [5.0, missing, 3.0], "right": [6.0, 1.0, missing]})
    (compared,) = findings(Compare(left="left", op="<=", right="right"), table, chunk=chunk)
    assert compared.passed
    (ordered,) = findings(Monotone(column="left"), table, chunk=chunk)
    assert ordered.examples == ("3.0 after 5.0",)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        (Range(column="id", low=1.0), [-(2**62)]),
        (Range(column="id", below=2.0**60), [2**60 + 1]),
        (OneOf(column="id", values=(1.0, 2.0**60)), [2**53 + 1, -(2**62)]),
    ],
)
def test_whole_numbers_that_no_float_equals_are_judged(
    rule: Expectation, broken: list[int]
) -> None:
    """Arrow refuses to compare them with the float that a bound is."""
    (found,) = findings(rule, pa.table({"id": [2**53 + 1, 2**60 + 1, None, -(2**62)]}))
    assert found.examples == tuple(map(str, broken))


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_times_are_held_against_years_that_nanoseconds_do_not_reach(unit: str) -> None:
    leaves = TABLE["leaves"].cast(pa.timestamp(unit, tz="UTC"))
    long_ago, far = datetime(1500, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    for rule, num_broken in (
        (Range(column="leaves", low=long_ago, high=far), 0),
        (Range(column="leaves", above=far), 4),
    ):
        found = findings(rule, pa.table({"leaves": leaves}))
        assert sum(finding.num_broken for finding in found) == num_broken


def test_what_is_on_no_calendar_has_no_range_of_times() -> None:
    rule = Range(column="leaves", low=NOON)
    assert rule.accepts(pa.date32())
    assert not rule.accepts(pa.duration("s"))
    assert not rule.accepts(pa.time32("s"))


@pytest.mark.parametrize(
    "rule",
    [
        Range(column="leaves", high=datetime(2100, 1, 1, tzinfo=UTC)),
        Unique(columns=("leaves",)),
        Monotone(column="leaves", strictly=True),
    ],
)
def test_a_time_after_the_year_9999_is_shown(rule: Expectation) -> None:
    """Python has no such time: what a rule should have found ended it."""
    table = pa.table({"leaves": pa.array([300_000_000_000] * 2, pa.timestamp("s", tz="UTC"))})
    (found,) = findings(rule, table)
    assert found.examples[0].startswith("11476-08-15 05:20:00Z")


AN_HOUR = pa.array([0, 3600, 0], pa.time32("s"))
DURATION = pa.array([0, 3600, 0], pa.duration("s"))
NAIVE = pa.array([MIDNIGHT.replace(tzinfo=None)] * 3, pa.timestamp("us"))
ZONED = pa.array([MIDNIGHT] * 3, pa.timestamp("us", tz="UTC"))
INTERVAL = pa.array([(1, 1, 1)] * 3, pa.month_day_nano_interval())
STRUCT = pa.array([{"a": 1}, {"a": 2}, {"a": 1}])


@pytest.mark.parametrize(
    ("rule", "column", "named"),
    [
        (Range(column="x", low=NOON), AN_HOUR, "type number, date or timestamp"),
        (Range(column="x", low=NOON), DURATION, "type number, date or timestamp"),
        (Monotone(column="x"), INTERVAL, "type number or time"),
        (Unique(columns=("x",)), pa.array([[1], [2], [1]]), "type single value"),
        (Unique(columns=("x",)), STRUCT, "type single value"),
        (Compare(left="x", op="<=", right="at"), pa.array([1.0, 2.0, 3.0]), "x <= at"),
        (Compare(left="x", op="<=", right="at"), NAIVE, "x <= at"),
        (Compare(left="x", op="==", right="x"), STRUCT, "x == x"),
    ],
)
def test_a_type_that_a_rule_cannot_judge_breaks_it(
    rule: Expectation, column: pa.Array, named: str, tumour_schema: TableSchema
) -> None:
    """Each of these was a traceback of Arrow's."""
    schema = replace(tumour_schema, expectations=(rule,))
    found = check(pa.table({"x": column, "at": ZONED}), schema)
    (broken,) = [each for each in found if each.rule == named]
    assert (broken.num_broken, broken.num_rows) == (3, 3)
    assert str(column.type) in broken.examples[0]


def test_half_floats_are_compared() -> None:
    """Arrow orders none."""
    halves = pa.array(np.array([0.5, 2, np.inf, 1], np.float16))
    table = pa.table({"half": halves, "whole": [1, 1, 1, 1]})
    for rule, num_broken in (
        (Range(column="half", high=1.0), 2),
        (Compare(left="half", op="<", right="whole"), 3),
        (Monotone(column="half"), 1),
    ):
        (found,) = findings(rule, table)
        assert found.num_broken == num_broken


def test_large_whole_numbers_are_compared_with_floats() -> None:
    table = pa.table({"whole": [2**60 + 1, 2, None], "float": [2.0, 2.0, 2.0]})
    (found,) = findings(Compare(left="whole", op="<=", right="float"), table)
    assert found.examples == (f"{2**60 + 1} | 2.0",)


def test_whole_numbers_that_no_type_holds_together_are_compared() -> None:
    """Arrow compares as int64, in which the largest of uint64 have no place."""
    table = pa.table(
        {
            "signed": pa.array([-1, 5, 2**63 - 1], pa.int64()),
            "unsigned": pa.array([2**64 - 1, 5, 4], pa.uint64()),
        }
    )
    (found,) = findings(Compare(left="signed", op="<=", right="unsigned"), table)
    assert found.examples == (f"{2**63 - 1} | 4",)


def test_bounds_and_sets_are_told_as_they_are() -> None:
    """`at most 1.23457e+07` was broken by 12345679, and `1.23457e+07 or ...` was the set."""
    table = pa.table({"x": [12345679]})
    (bound,) = findings(Range(column="x", high=12345678), table)
    (chosen,) = findings(OneOf(column="x", values=(12345678.0, 0.1)), table)
    assert (bound.rule, bound.examples) == ("at most 12345678", ("12345679",))
    assert (chosen.rule, chosen.passed) == ("12345678 or 0.1", False)
