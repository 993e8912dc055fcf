"""Drift: are these rows still distributed as those were?

    bins ▸ counts ─▶ tests (a family under one contract) ─▶ verdict (policy) ─▶ FeatureDrift

The monitor judges traffic with it, expectations judge a dataset against an earlier version, and
`raymlops drift compare` two tables. The p-values take rows as independent. Rows of one day are
not, which makes small p-values smaller than they should be; the thresholds of the effects are
what keeps that from alarming.
"""

from raymlops.data.drift.base import DriftTest, Reading, TestName
from raymlops.data.drift.correction import Correction, benjamini_hochberg, holm
from raymlops.data.drift.family import TESTS
from raymlops.data.drift.jointly import judge_jointly
from raymlops.data.drift.policy import DriftPolicy, FeaturePolicy
from raymlops.data.drift.verdict import FeatureDrift, Judged, debounced, judge

__all__ = [
    "TESTS",
    "Correction",
    "DriftPolicy",
    "DriftTest",
    "FeatureDrift",
    "FeaturePolicy",
    "Judged",
    "Reading",
    "TestName",
    "benjamini_hochberg",
    "debounced",
    "holm",
    "judge",
    "judge_jointly",
]
