"""Rules as YAML declares them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from raymlops.data import rules
from raymlops.data.rules import Compare, Expectation, OneOf, Range, Unique
from tests.data.rules.checked import NAN, NOON


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
