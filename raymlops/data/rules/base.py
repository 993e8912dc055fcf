"""The contract of an expectation: declared once, checked batch by batch in bounded memory.

    rule.checker(schema, references) ──▶ feed(batch), feed(batch), ... ──▶ findings(num_rows)

A rule is a frozen dataclass, so YAML can declare it; what it has seen so far lives in its checker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict

NUM_EXAMPLES = 3

_MAX_EXAMPLE_LENGTH = 80


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule, checked: `num_broken` of `num_rows` rows break it; `examples` are their values,
    `way_out` what can be done about it, where the rule alone does not say so."""

    column: str
    rule: str
    num_broken: int
    num_rows: int
    examples: tuple[str, ...] = ()
    way_out: str = ""

    @property
    def passed(self) -> bool:
        return self.num_broken == 0

    def __str__(self) -> str:
        shown = f", e.g. {', '.join(self.examples)}" if self.examples else ""
        way_out = f"; {self.way_out}" if self.way_out else ""
        return (
            f"column '{self.column}': rule '{self.rule}' is broken by "
            f"{self.num_broken} of {self.num_rows} rows{shown}{way_out}"
        )


class Batches(Protocol):
    """Rows that can be read again and again, a batch at a time."""

    @property
    def schema(self) -> pa.Schema: ...

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, of `columns` or of all."""


class References(Protocol):
    """Earlier versions of the dataset that is checked."""

    def reference(self, version: int | None) -> tuple[str, Batches] | None:
        """What `version` is called and its rows; without one the newest, None before the first."""


class Checker(Protocol):
    """What a rule has seen so far."""

    def feed(self, batch: pa.RecordBatch) -> None: ...

    def findings(self, num_rows: int) -> Iterable[Finding]: ...


@dataclass(frozen=True, kw_only=True)
class Expectation(ABC):
    """A rule about some columns of a table.

    `wants` names the types the rule can judge; `accepts` decides on one.
    """

    # Declared in YAML, a misspelt key must not pass silently.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    wants: ClassVar[str] = "any"

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The columns the rule needs; a table without them breaks it."""

    def accepts(self, kind: pa.DataType) -> bool:
        return True

    @abstractmethod
    def checker(self, schema: pa.Schema, references: References | None) -> Checker:
        """A checker that has seen nothing yet; the columns are there and of accepted types.

        Raises:
            DataError: the rule compares with an earlier version, and there are no `references`.
        """


@dataclass
class RowChecker:
    """Counts rows for which `broken` is true; a row it says null of is not judged."""

    column: str
    rule: str
    broken: Callable[[pa.RecordBatch], Any]
    shown: Sequence[str]
    way_out: str = ""
    num_broken: int = 0
    examples: list[str] = field(default_factory=list)

    def feed(self, batch: pa.RecordBatch) -> None:
        mask = pc.fill_null(self.broken(batch), False)
        num_broken = pc.sum(mask).as_py() or 0
        if num_broken and len(self.examples) < NUM_EXAMPLES:
            rows = batch.select(list(self.shown)).filter(mask)
            rows = rows.slice(0, NUM_EXAMPLES - len(self.examples))
            self.examples += [example(*row) for row in zip(*rows.columns, strict=True)]
        self.num_broken += num_broken

    def findings(self, num_rows: int) -> Iterator[Finding]:
        yield Finding(
            column=self.column,
            rule=self.rule,
            num_broken=self.num_broken,
            num_rows=num_rows,
            examples=tuple(self.examples),
            way_out=self.way_out if self.num_broken else "",
        )


def example(*values: object) -> str:
    """Values of one row, Arrow's or Python's, as a person reads them, cut where they are long."""
    text = " | ".join(map(_text, values))
    return text if len(text) <= _MAX_EXAMPLE_LENGTH else f"{text[: _MAX_EXAMPLE_LENGTH - 3]}..."


def _text(value: Any) -> str:
    """What Python shows, or Arrow where a time lies after the year 9999, Python's last."""
    try:
        return str(value)
    except OverflowError:
        return str(value.cast(pa.string()))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_category(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    return any(test(kind) for test in tests)


def ordered(column: Any) -> Any:
    """The values as Arrow compares them; for half floats it has no order."""
    return column.cast(pa.float32()) if pa.types.is_float16(column.type) else column


def is_missing(column: Any) -> Any:
    """True where a value is null or, among floats, NaN."""
    return pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
