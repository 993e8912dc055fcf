"""What several runs were given and gave, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing of every run, in their order; None where a run has no such thing."""

    group: str
    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        return any(not _same(self.values[0], value) for value in self.values[1:])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows by group, then by name."""

    run_ids: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def differing(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.differs)


def side_by_side(run_ids: Sequence[str], **groups: Sequence[Mapping[str, Any]]) -> Comparison:
    """Args:
    groups: for each group what every run has, by name, in the order of `run_ids`."""
    return Comparison(
        run_ids=tuple(run_ids),
        rows=tuple(
            Row(group=group, name=name, values=tuple(each.get(name) for each in of_runs))
            for group, of_runs in groups.items()
            for name in sorted({name for each in of_runs for name in each})
        ),
    )


def _same(a: Any, b: Any) -> bool:
    """Equal, where NaN equals NaN: two runs that both diverged do not differ."""
    return bool(a == b) or (a != a and b != b)
