"""Rules a table must keep: a family of frozen dataclasses, declared in YAML or in Python.

expectations:
  - {rule: unique, columns: [flight, origin, scheduled_at]}
  - {rule: compare, left: arrival, op: ">=", right: departure}
  - {rule: drift, max_effect: 0.2}
"""

from typing import Annotated

from pydantic import Field

from raymlops.data.rules.base import (
    Batches,
    Checker,
    Expectation,
    Finding,
    References,
)
from raymlops.data.rules.compare import Compare
from raymlops.data.rules.drift import Drift
from raymlops.data.rules.missing import MissingShare
from raymlops.data.rules.monotone import Monotone
from raymlops.data.rules.rows import RowCount
from raymlops.data.rules.types import Typed
from raymlops.data.rules.unique import Unique
from raymlops.data.rules.values import Finite, Function, Matches, OneOf, Range

Rule = Annotated[
    Compare
    | Drift
    | Finite
    | Function
    | Matches
    | MissingShare
    | Monotone
    | OneOf
    | Range
    | RowCount
    | Typed
    | Unique,
    Field(discriminator="rule"),
]
"""Any of the family; in YAML `rule` says which."""

__all__ = [
    "Batches",
    "Checker",
    "Compare",
    "Drift",
    "Expectation",
    "Finding",
    "Finite",
    "Function",
    "Matches",
    "MissingShare",
    "Monotone",
    "OneOf",
    "Range",
    "References",
    "RowCount",
    "Rule",
    "Typed",
    "Unique",
]
