"""What drift says of the flights of 2013, month by month, against January to March.

Prints the table of docs/monitoring/drift.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from raymlops.data import between, open_source
from raymlops.data.distributions import Distributions, LocalRows
from raymlops.data.drift import DriftPolicy, FeatureDrift, Reading, judge, judge_jointly
from raymlops.data.drift.jointly import MAX_ROWS
from raymlops.demo.flights import load_flights

TIME = "scheduled_at"
LABEL = "late"


@dataclass(frozen=True, kw_only=True)
class Month:
    """One month held against winter: its inputs, its label, all inputs together."""

    month: int
    inputs: tuple[FeatureDrift, ...]
    label: FeatureDrift
    label_share: float
    together: Reading

    @property
    def drifted(self) -> list[FeatureDrift]:
        return sorted((row for row in self.inputs if row.drifted), key=lambda row: -row.effect)


def months(flights: pa.Table, policy: DriftPolicy) -> list[Month]:
    """April to December, each a look at the same reference."""
    winter = _rows(flights, 1, 4)
    names = [name for name in flights.column_names if name not in (TIME, LABEL)]
    inputs = Distributions.of(winter, names)
    label = Distributions.of(winter, [LABEL])
    sample = inputs.layout.read(winter.sample(inputs.layout.columns, MAX_ROWS))
    found = []
    for look, month in enumerate(range(4, 13), start=1):
        rows = _rows(flights, month, month + 1)
        (late,) = _judge(label, rows, policy, look)
        answers = rows.sample([LABEL], flights.num_rows)[LABEL]
        found.append(
            Month(
                month=month,
                inputs=_judge(inputs, rows, policy, look),
                label=late,
                label_share=float(np.mean(answers.to_numpy())),
                together=judge_jointly(
                    sample, inputs.layout.read(rows.sample(inputs.layout.columns, MAX_ROWS))
                ),
            )
        )
    return found


def _rows(flights: pa.Table, first: int, end: int) -> LocalRows:
    start = datetime(2013, first, 1, tzinfo=UTC)
    until = datetime(2013, end, 1, tzinfo=UTC) if end <= 12 else datetime(2014, 1, 1, tzinfo=UTC)
    return LocalRows(open_source(between(flights, TIME, start, until)))


def _judge(
    reference: Distributions, rows: LocalRows, policy: DriftPolicy, look: int
) -> tuple[FeatureDrift, ...]:
    layout, counts = reference.layout, rows.count(reference.layout)
    sides = zip(layout.split(reference.counts), layout.split(counts), strict=True)
    counted = [(bins, before, after) for (bins, before), (_, after) in sides]
    return judge(counted, int(counted[0][2].sum()), policy, look=look)


def markdown(found: Iterable[Month]) -> str:
    lines = [
        "| month | flights | late | late drifted | inputs drifted | the farthest | together |",
        "| --- | ---: | ---: | --- | ---: | --- | ---: |",
    ]
    for each in found:
        farthest = ", ".join(f"{row.feature} {row.effect:.2f}" for row in each.drifted[:4])
        lines.append(
            f"| {datetime(2013, each.month, 1):%B} | {each.label.num_rows:,} "
            f"| {each.label_share:.1%} | {'yes' if each.label.drifted else 'no'} "
            f"({each.label.effect:.2f}) | {len(each.drifted)} of {len(each.inputs)} "
            f"| {farthest} | {each.together.effect:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    print(markdown(months(load_flights(), DriftPolicy())))


if __name__ == "__main__":
    main()
