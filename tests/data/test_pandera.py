from __future__ import annotations

from collections.abc import Callable

import pandera.pandas as pandera
import pytest
from pandera import Check, Column, Parser
from pandera.errors import SchemaErrors

from raymlops.data import Feature, TableSchema, check
from raymlops.data.pandera import from_pandera
from raymlops.demo.flights import load_flights
from raymlops.errors import DataError

SCHEMA = pandera.DataFrameSchema(
    {
        "carrier": Column(str, [Check.isin(["AA", "B6", "UA"]), Check.str_matches("[A-U]")]),
        "distance": Column("int64", [Check.gt(100), Check.in_range(0, 2475, include_max=False)]),
        "temp": Column(float, [Check.ge(32), Check.le(90)], nullable=True),
        "seats": Column(float, Check(lambda seats: seats < 300, element_wise=True, name="small")),
        "late": Column("int8", Check.lt(1)),
    }
)

# What a rule is called here, and there. What nothing breaks, pandera does not mention.
RULES = {
    ("carrier", "AA, B6 or UA"): "isin(['AA', 'B6', 'UA'])",
    ("carrier", "matches (?:[A-U])(?s:.*)"): "str_matches('[A-U]')",
    ("carrier", "missing share at most 0"): "",
    ("distance", "above 100"): "greater_than(100)",
    ("distance", "at least 0"): "",
    ("distance", "below 2475"): "in_range(0, 2475)",
    ("temp", "at least 32"): "greater_than_or_equal_to(32)",
    ("temp", "at most 90"): "",
    ("seats", "missing share at most 0"): "not_nullable",
    ("seats", "small"): "small",
    ("late", "below 1"): "less_than(1)",
}


def test_rules_find_what_pandera_finds() -> None:
    table = load_flights().slice(0, 20_000)
    with pytest.raises(SchemaErrors) as failed:
        SCHEMA.validate(table.select(list(SCHEMA.columns)).to_pandas(), lazy=True)
    cases = failed.value.failure_cases.groupby(["column", "check"]).size().to_dict()
    schema = TableSchema(
        dataset="flights",
        target="late",
        event_time="scheduled_at",
        features=(Feature(name="hour", kind="number"),),
        expectations=from_pandera(SCHEMA),
    )
    found = {(each.column, each.rule): each.num_broken for each in check(table, schema)}
    told = {(column, cases_name): count for (column, cases_name), count in cases.items()}
    assert {key: found[key] for key in RULES} == {
        key: told.pop((key[0], name), 0) for key, name in RULES.items()
    }
    assert told == {}
    assert found["carrier", "type category"] == found["distance", "type integer"] == 0


def test_uniqueness_is_taken_over() -> None:
    schema = pandera.DataFrameSchema(
        {"a": Column(int, unique=True), "b": Column("datetime64[ns, UTC]")}, unique=["a", "b"]
    )
    assert [str(getattr(rule, "columns", "")) for rule in from_pandera(schema)].count("('a',)") == 1
    assert from_pandera(schema)[-1].reads == ("a", "b")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (lambda: pandera.DataFrameSchema({"a": Column(int)}, strict=True), "strict of the pandera"),
        (lambda: pandera.DataFrameSchema({"a": Column(int)}, checks=Check.ge(0)), "checks of the"),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int)}, parsers=Parser(lambda a: a)),
            "parsers of the pandera",
        ),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int)}, drop_invalid_rows=True),
            "drop_invalid_rows of the pandera",
        ),
        (lambda: pandera.DataFrameSchema({"a": Column(int, default=0)}), "change rows before they"),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int, parsers=Parser(lambda a: a))}),
            "change rows before they",
        ),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int, Check.ge(0, ignore_na=False))}),
            "ignore_na=False and raise_warning of check greater_than_or_equal_to have no",
        ),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int, Check.ge(0, raise_warning=True))}),
            "ignore_na=False and raise_warning of check greater_than_or_equal_to have no",
        ),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int, Check(lambda a: a.mean() > 3))}),
            "column 'a': check <lambda> has no counterpart; make it element_wise",
        ),
        (
            lambda: pandera.DataFrameSchema({"a": Column(int, required=False)}),
            "column 'a': regex and optional columns have no counterpart",
        ),
        (lambda: pandera.DataFrameSchema({"a": Column("timedelta64[ns]")}), "type timedelta64"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    schema: Callable[[], pandera.DataFrameSchema], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        from_pandera(schema())
