from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from raymlops.data import TableSchema, check, rules
from raymlops.data.rules import (
    Compare,
    Drift,
    Expectation,
    Finding,
    Finite,
    Function,
    Matches,
    MissingShare,
    Monotone,
    OneOf,
    Range,
    RowCount,
    Typed,
    Unique,
)
from raymlops.data.rules.unique import UniqueChecker
from raymlops.demo.flights import load_flights
from raymlops.errors import DataError

NAN = float("nan")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
MIDNIGHT = datetime(2013, 1, 1, tzinfo=UTC)

TABLE = pa.table(
    {
        "hour": pa.array([5.0, 23.0, None, 24.0, float("inf")]),
        "carrier": ["AA", "B6", None, "Delta", "AA"],
        "day": [1, 2, 2, 1, 5],
        "leaves": pa.array([MIDNIGHT, NOON, NOON, MIDNIGHT, None], pa.timestamp("us", tz="UTC")),
        "lands": pa.array([NOON, NOON, MIDNIGHT, None, NOON], pa.timestamp("us", tz="UTC")),
    }
)

# Each rule of the family, how many of the 5 rows break it, and what is shown of them.
MEMBERS: list[tuple[Expectation, int, tuple[str, ...]]] = [
    (Range(column="hour", low=0, high=23), 2, ("24.0", "inf")),
    (Range(column="hour", above=5, below=100), 2, ("5.0", "inf")),
    (Range(column="leaves", low=NOON), 2, (str(MIDNIGHT), str(MIDNIGHT))),
    (Finite(column="hour"), 1, ("inf",)),
    (OneOf(column="carrier", values=("AA", "B6")), 1, ("Delta",)),
    (OneOf(column="day", values=(1, 2)), 1, ("5",)),
    (Matches(column="carrier", pattern="[0-9A-Z]{2}"), 1, ("Delta",)),
    (Function(column="day", function=lambda day: day < 5, name="weekday"), 1, ("5",)),
    (MissingShare(column="carrier", max_share=0.1), 1, ()),
    (Unique(columns=("day",)), 2, ("1 (2 times)", "2 (2 times)")),
    (Unique(columns=("carrier", "day")), 0, ()),
    (RowCount(min=7, max=10), 2, ()),
    (RowCount(max=2), 3, ()),
    (Compare(left="lands", op=">=", right="leaves"), 1, (f"{MIDNIGHT} | {NOON}",)),
    (Monotone(column="day"), 1, ("1 after 2",)),
    (Monotone(column="day", strictly=True), 2, ("2 after 2", "1 after 2")),
    (Monotone(column="leaves"), 1, (f"{MIDNIGHT} after {NOON}",)),
    (Typed(column="day", type="category"), 5, ("it is int64",)),
    (Typed(column="day", type="int64"), 0, ()),
    (Drift(columns=("hour",)), 0, ()),
]
IDS = [f"{number}-{rule.rule}" for number, (rule, _, _) in enumerate(MEMBERS)]


class Earlier:
    """One version of a dataset, in memory."""

    def __init__(self, table: pa.Table | None) -> None:
        self.table = table

    def reference(self, version: int | None) -> tuple[str, Earlier] | None:
        return None if self.table is None else (f"version {version or 1}", self)

    @property
    def schema(self) -> pa.Schema:
        assert self.table is not None
        return self.table.schema

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        assert self.table is not None
        yield from self.table.select(columns or self.schema.names).to_batches(max_chunksize=7_777)


def findings(
    rule: Expectation, table: pa.Table, *, chunk: int = 2, earlier: pa.Table | None = None
) -> list[Finding]:
    checker = rule.checker(table.schema, Earlier(earlier))
    for batch in table.to_batches(max_chunksize=chunk):
        checker.feed(batch)
    return list(checker.findings(table.num_rows))


def test_every_member_of_the_family_is_tested() -> None:
    union, _ = get_args(rules.Rule)
    assert {type(rule) for rule, _, _ in MEMBERS} == set(get_args(union))


@pytest.mark.parametrize("member", MEMBERS, ids=IDS)
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_a_rule_counts_and_shows_what_breaks_it_in_batches_of_any_size(
    member: tuple[Expectation, int, tuple[str, ...]], chunk: int
) -> None:
    rule, num_broken, examples = member
    found = findings(rule, TABLE, chunk=chunk)
    assert sum(finding.num_broken for finding in found) == num_broken
    shown = [example for finding in found for example in finding.examples]
    assert sorted(shown) == sorted(examples)
    assert all(finding.num_rows == 5 for finding in found)


@pytest.mark.parametrize("member", MEMBERS, ids=IDS)
def test_a_rule_holds_on_no_rows_but_that_there_are_some(
    member: tuple[Expectation, int, tuple[str, ...]],
) -> None:
    rule, _, _ = member
    found = findings(rule, TABLE.slice(0, 0))
    is_about_the_table = isinstance(rule, RowCount) or rule == Typed(column="day", type="category")
    assert is_about_the_table or all(finding.passed for finding in found)


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


def rule_of(values: dict[str, Any]) -> Expectation:
    """A rule as YAML declares it."""
    rule: Expectation = TypeAdapter(rules.Rule).validate_json(json.dumps(values), strict=True)
    return rule


def test_rules_are_declared_by_name() -> None:
    assert rule_of({"rule": "unique", "columns": ["a", "b"]}) == Unique(columns=("a", "b"))
    assert rule_of({"rule": "compare", "left": "a", "op": ">=", "right": "b"}) == Compare(
        left="a", op=">=", right="b"
    )
    assert rule_of({"rule": "range", "column": "t", "low": "2013-01-01T12:00:00+00:00"}) == Range(
        column="t", low=NOON
    )
    assert rule_of({"rule": "one_of", "column": "d", "values": [0, 1]}) == OneOf(
        column="d", values=(0, 1)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": "uniqe", "columns": ["a"]}, "does not match any of the expected tags"),
        ({"rule": "unique", "column": ["a"]}, "columns"),
        ({"rule": "missing", "column": "a", "max": 0.1}, "max"),
        ({"rule": "range", "column": "a"}, "has no bound"),
        ({"rule": "range", "column": "a", "low": 2, "high": 1}, "low 2.0 is above high 1.0"),
        ({"rule": "range", "column": "a", "low": "2013-01-01T00:00Z", "high": 1}, "give one"),
        ({"rule": "range", "column": "a", "below": NAN}, "a: below nan would let every value pass"),
        (
            {
                "rule": "range",
                "column": "a",
                "low": "2013-01-01T00:00",
                "high": "2014-01-01T00:00Z",
            },
            "has times with a zone and without; give one kind",
        ),
        ({"rule": "rows"}, "needs min or max"),
        ({"rule": "rows", "min": 2, "max": 1}, "min 2 is above max 1"),
        ({"rule": "one_of", "column": "a", "values": []}, "is empty"),
        ({"rule": "matches", "column": "a", "pattern": "("}, "is no pattern"),
        ({"rule": "compare", "left": "a", "op": "=>", "right": "b"}, "op"),
        ({"rule": "unique", "columns": []}, "names no columns"),
        ({"rule": "missing", "column": "a", "max_share": 2}, "not within 0 and 1"),
        (
            {"rule": "drift", "max_effect": 2},
            "the threshold of ks is 2.0; its effect is never above 1",
        ),
        ({"rule": "function", "column": "a", "name": "f", "function": "f"}, "callable"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule_of(values)


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return load_flights()


def test_uniqueness_on_disk_counts_as_in_memory(flights: pa.Table) -> None:
    keys = ["scheduled_at", "carrier", "origin", "dest", "plane_year", "late"]
    table = flights.select(keys)
    frame = table.to_pandas()
    expected = int(frame.duplicated().sum())
    assert expected > 0
    for buffer_bytes in (1 << 30, 1 << 18):
        checker = UniqueChecker(tuple(keys), buffer_bytes=buffer_bytes)
        for batch in table.to_batches(max_chunksize=10_000):
            checker.feed(batch)
        assert bool(checker.partitions) == (buffer_bytes == 1 << 18)
        (found,) = checker.findings(table.num_rows)
        assert found.num_broken == expected
        assert len(found.examples) == 3


def test_equal_keys_meet_on_disk_whatever_lies_beside_them() -> None:
    # pandas reads a batch of integers with a missing one as floats, which hash differently.
    checker = UniqueChecker(("a", "b"), buffer_bytes=0)
    for a in ([1, 2], [1, None], [None, 3]):
        checker.feed(pa.record_batch({"a": pa.array(a, pa.int64()), "b": ["x", "x"]}))
    (found,) = checker.findings(6)
    assert (found.num_broken, sorted(found.examples)) == (
        2, ["1 | x (2 times)", "None | x (2 times)"],
    )  # fmt: skip


def month(table: pa.Table, number: int) -> pa.Table:
    months = np.asarray(table["scheduled_at"].to_pandas().dt.month)
    return table.filter(pa.array(months == number))


def test_drift_names_the_columns_that_moved(flights: pa.Table) -> None:
    january, july = month(flights, 1), month(flights, 7)
    found = findings(Drift(), july, chunk=5_000, earlier=january)
    broken = {finding.column: finding for finding in found if not finding.passed}
    assert "temp" in broken
    assert "carrier" not in broken
    assert broken["temp"].rule == "within 0.1 of version 1"
    assert broken["temp"].num_broken == july.num_rows
    # The largest gap between the two distribution functions, counted by hand; bins see it to 1/256.
    cold, warm = (np.sort(part["temp"].drop_null().to_numpy()) for part in (january, july))
    grid = np.unique([*cold, *warm])
    gap = np.abs(
        np.searchsorted(cold, grid, "right") / len(cold)
        - np.searchsorted(warm, grid, "right") / len(warm)
    ).max()
    told = re.fullmatch(r"ks (0\.\d{3}), p 0", broken["temp"].examples[0])
    assert told is not None
    assert float(told[1]) == pytest.approx(gap, abs=1 / 256)


def test_rows_alike_have_not_drifted(flights: pa.Table) -> None:
    even = flights.take(pa.array(np.arange(0, 100_000, 2)))
    odd = flights.take(pa.array(np.arange(1, 100_000, 2)))
    assert all(finding.passed for finding in findings(Drift(), odd, chunk=5_000, earlier=even))


def test_drift_of_what_cannot_be_compared_is_refused() -> None:
    texts = TABLE.set_column(0, "hour", pa.array(["5", "23", None, "24", "inf"]))
    with pytest.raises(DataError, match="drift of hour against version 1 cannot be told"):
        findings(Drift(columns=("hour",)), TABLE, earlier=texts)
    with pytest.raises(DataError, match="needs the ledger that holds its reference"):
        Drift().checker(TABLE.schema, None)
