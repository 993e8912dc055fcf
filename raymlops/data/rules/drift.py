"""Rule: columns are still distributed as in an earlier version of the dataset.

The bins, the tests and the effects are those the monitor judges traffic with, so a number in the
report of a dataset means what it means in the report of a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from raymlops.data.distributions import Comparison, Distributions, LocalRows
from raymlops.data.drift import DriftPolicy
from raymlops.data.rules.base import Expectation, Finding, References
from raymlops.data.views import shared
from raymlops.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Drift(Expectation):
    """No column lies further than `max_effect` from version `reference` (default: the newest).

    An effect is a difference of probabilities, between 0 and 1: the KS distance of numbers, the
    total variation distance of categories, the difference of missing shares. It must also be no
    accident, at `alpha` over all columns. Without `columns` all that can be compared are. The
    first version, and tables of fewer than `min_rows`, are held against nothing.
    """

    rule: Literal["drift"] = "drift"
    columns: tuple[str, ...] = ()
    reference: int | None = None
    max_effect: float = 0.1
    alpha: float = 0.05
    min_rows: int = 500

    def __post_init__(self) -> None:
        _ = self.policy  # checks alpha, max_effect and min_rows

    @property
    def policy(self) -> DriftPolicy:
        return DriftPolicy(
            alpha=self.alpha,
            spending=False,  # each version is held against another one
            thresholds={"ks": self.max_effect, "missing": self.max_effect, "chi2": self.max_effect},
            min_rows=self.min_rows,
        )

    @property
    def reads(self) -> tuple[str, ...]:
        return self.columns

    def checker(self, schema: pa.Schema, references: References | None) -> _DriftChecker:
        if references is None:
            raise DataError(
                "a rule about drift needs the ledger that holds its reference; check through a "
                "workspace, or pass `references`"
            )
        found = references.reference(self.reference)
        if found is None:
            return _DriftChecker(self, "", None)
        name, rows = found
        can = shared(schema, rows.schema)
        cannot = [column for column in self.columns if column not in can]
        if cannot:
            raise DataError(
                f"drift of {', '.join(cannot)} against {name} cannot be told: both must be "
                f"numbers, categories or embeddings; those are {', '.join(can) or 'none'}"
            )
        distributions = Distributions.of(LocalRows(rows), self.columns or can)
        return _DriftChecker(self, name, Comparison(distributions))


@dataclass(frozen=True)
class _DriftChecker:
    rule: Drift
    name: str
    comparison: Comparison | None

    def feed(self, batch: pa.RecordBatch) -> None:
        if self.comparison is not None:
            self.comparison.feed(batch)

    def findings(self, num_rows: int) -> Iterator[Finding]:
        if self.comparison is None:
            return
        for drift in self.comparison.verdicts(self.rule.policy):
            shown = f"{drift.test} {drift.effect:.3f}, p {drift.p_value:.2g}"
            yield Finding(
                column=drift.feature,
                rule=f"within {self.rule.max_effect:g} of {self.name}",
                num_broken=num_rows if drift.drifted else 0,
                num_rows=num_rows,
                examples=(shown,) if drift.drifted else (),
            )
