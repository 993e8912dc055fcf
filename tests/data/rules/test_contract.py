"""One contract for all rules."""

from __future__ import annotations

from typing import get_args

import pytest

from raymlops.data import rules
from raymlops.data.rules import (
    Compare,
    Drift,
    Expectation,
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
from tests.data.rules.checked import MIDNIGHT, NOON, TABLE, findings

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
