"""Training: one spec, run under a parallel plan, recorded as a run."""

from raymlops.train.plan import ParallelPlan
from raymlops.train.tabular.quality import Quality, calibration_error, judge
from raymlops.train.tabular.spec import TabularSpec

__all__ = ["ParallelPlan", "Quality", "TabularSpec", "calibration_error", "judge"]
