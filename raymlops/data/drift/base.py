"""The contract of a drift test: two count vectors over the same bins in, effect and p-value out.

    bins, reference counts, window counts ──▶ DriftTest.measure ──▶ Reading(effect, p_value)

Tests see counts alone, so a million rows cost as much as a thousand, and windows counted by many
replicas are compared as one. Their p-values are closed forms, without permutations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from raymlops.data.bins import Bins, Counts, NumberBins

TestName = Literal["ks", "missing", "chi2", "psi", "js", "wasserstein"]
Kind = Literal["number", "category"]


class Reading(NamedTuple):
    """How far two distributions lie apart, and how likely that is where they are the same."""

    effect: float
    p_value: float


ALIKE = Reading(0.0, 1.0)


class DriftTest(ABC):
    """One way to hold a window against its reference.

    `threshold` is an effect that still does not matter, unless the policy names another.
    """

    name: ClassVar[TestName]
    judges: ClassVar[frozenset[Kind]]
    threshold: ClassVar[float]

    def applies(self, reference: Counts, window: Counts) -> bool:
        """Whether the test can say something; depends only on the sum of both, not on which
        is which."""
        return True

    @abstractmethod
    def measure(self, bins: Bins, reference: Counts, window: Counts) -> Reading:
        """The reading; (0, 1) where one side is empty."""


def kind_of(bins: Bins) -> Kind:
    return "number" if isinstance(bins, NumberBins) else "category"
