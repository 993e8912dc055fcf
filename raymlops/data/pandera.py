"""Rules taken from a pandera schema (extra `pandera`).

The schema is translated, not run: pandera validates a whole pandas frame in memory, and a check
such as uniqueness is wrong on a part of one. Our rules read Arrow batch by batch, so a dataset
larger than memory can be checked, and each leaves a row in the ledger. What has no counterpart is
refused by name rather than dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from raymlops.data.rules import Function, Matches, MissingShare, OneOf, Range, Rule, Typed, Unique
from raymlops.errors import DataError

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema


def from_pandera(schema: DataFrameSchema) -> tuple[Rule, ...]:
    """The rules of a pandera `DataFrameSchema`, for `TableSchema.expectations`.

    Types, nullability, uniqueness, the built-in checks of ranges, sets and patterns, and checks
    with `element_wise=True` are taken over. Index, coercion and metadata say nothing about rows.

    Raises:
        DataError: a part of the schema has no counterpart; names it.
    """
    unknown = [
        name for name in (
            "strict", "ordered", "checks", "unique_column_names", "dtype", "parsers",
            "add_missing_columns", "drop_invalid_rows",
        )
        if getattr(schema, name)
    ]  # fmt: skip
    if unknown:
        raise DataError(
            f"{', '.join(unknown)} of the pandera schema has no counterpart; declare its columns "
            "and rules one by one"
        )
    rules = [rule for name, column in schema.columns.items() for rule in _column(name, column)]
    if schema.unique:
        rules.append(Unique(columns=tuple(schema.unique)))
    return tuple(rules)


def _column(name: str, column: Any) -> Iterator[Rule]:
    if column.regex or not column.required:
        raise DataError(f"pandera column '{name}': regex and optional columns have no counterpart")
    if column.parsers or column.default is not None or column.drop_invalid_rows:
        raise DataError(
            f"pandera column '{name}': parsers, a default and drop_invalid_rows change rows before "
            "they are judged, which has no counterpart; rows are judged as they are"
        )
    if column.dtype is not None and not column.coerce:
        yield Typed(column=name, type=_type(name, column.dtype))
    if not column.nullable:
        yield MissingShare(column=name)
    if column.unique:
        yield Unique(columns=(name,))
    for check in column.checks:
        yield _check(name, check)


def _type(name: str, dtype: Any) -> str:
    from pandera import dtypes

    families: dict[str, Callable[[Any], bool]] = {
        "boolean": dtypes.is_bool,
        "integer": dtypes.is_int,
        "float": dtypes.is_float,
        "time": dtypes.is_datetime,
        "category": lambda each: dtypes.is_string(each) or dtypes.is_category(each),
    }
    for family, fits in families.items():
        if fits(dtype):
            return family
    raise DataError(f"pandera column '{name}': type {dtype} has no counterpart")


def _check(name: str, check: Any) -> Rule:
    if check.groupby is not None or not check.ignore_na or check.raise_warning:
        raise DataError(
            f"pandera column '{name}': groupby, ignore_na=False and raise_warning of check "
            f"{check.name or check} have no counterpart; missing values pass, or are forbidden by "
            "nullable=False, and what breaks a rule is refused"
        )
    told = check.statistics or {}
    match check.name, told:
        case "greater_than_or_equal_to", {"min_value": low}:
            return Range(column=name, low=low)
        case "less_than_or_equal_to", {"max_value": high}:
            return Range(column=name, high=high)
        case "greater_than", {"min_value": low}:
            return Range(column=name, above=low)
        case "less_than", {"max_value": high}:
            return Range(column=name, below=high)
        case "in_range", {"min_value": low, "max_value": high}:
            return Range(
                column=name,
                **{"low" if told["include_min"] else "above": low},
                **{"high" if told["include_max"] else "below": high},
            )
        case "isin", {"allowed_values": values}:
            return OneOf(column=name, values=tuple(values))
        case "str_matches", {"pattern": pattern}:
            # pandera matches from the start and does not care about the rest, lines included.
            return Matches(
                column=name, pattern=f"(?:{getattr(pattern, 'pattern', pattern)})(?s:.*)"
            )
        case _ if check.element_wise:
            return Function(column=name, function=check._check_fn, name=check.name or "function")
    raise DataError(
        f"pandera column '{name}': check {check.name or check} has no counterpart; make it "
        "element_wise, or declare a rule"
    )
